"""Metrics that are updated in batches, with scikit-learn as the oracle."""

import math

import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

import featood.detectors as d
from featood.errors import DataError, UsageError

GENERATOR = torch.Generator().manual_seed(3)
LABELS = torch.arange(120) % 3 - 1
SCORES = (torch.randn(120, generator=GENERATOR) - 1.5 * LABELS.clamp(max=0)).mul(5).round()
KEYS = ["AUROC", "AUTC", "AUPR-IN", "AUPR-OUT", "FPR95TPR"]


def test_metrics_of_batches_are_those_of_scikit_learn():
    metrics = d.OODMetrics()
    for scores, labels in zip(SCORES.split(17), LABELS.split(17), strict=True):
        assert metrics.update(scores, labels) is metrics
    found = metrics.compute()
    outlier = (LABELS < 0).numpy()
    assert list(found) == KEYS
    assert found["AUROC"] == pytest.approx(roc_auc_score(outlier, SCORES), abs=1e-12)
    for key, positive, sign in (("AUPR-OUT", outlier, 1), ("AUPR-IN", ~outlier, -1)):
        precision, recall, _ = precision_recall_curve(positive, sign * SCORES)
        assert found[key] == pytest.approx(auc(recall, precision), abs=1e-12)
    fpr, tpr, _ = roc_curve(outlier, SCORES, drop_intermediate=False)
    assert found["FPR95TPR"] == pytest.approx(fpr[tpr >= 0.95][0], abs=1e-12)


def test_accuracy_is_that_of_known_rows():
    predictions = torch.arange(120) % 2
    found = d.OODMetrics().update(SCORES, LABELS, predictions).compute()["ACC"]
    known = LABELS >= 0
    assert found == float((predictions == LABELS)[known].float().mean())
    with pytest.raises(UsageError, match="in every update, or in none"):
        d.OODMetrics().update(SCORES, LABELS, predictions).update(SCORES, LABELS)


def test_void_pixels_are_left_out_and_images_averaged():
    images, masks = SCORES.view(3, 5, 8), LABELS.view(3, 5, 8).clone()
    masks[:, 0] = 7
    kept = masks != 7
    found = d.OODSegmentationMetrics(void_label=7).update(images, masks).compute()
    assert found == d.OODMetrics().update(images[kept], masks[kept]).compute()
    masks[1] = 0
    each = [d.OODMetrics(void_label=7).update(images[i], masks[i]).compute()["AUROC"] for i in (0, 2)]
    metrics = d.OODPerImageSegmentationMetrics(void_label=7).update(images, masks)
    with pytest.warns(UserWarning, match="1 of 3 images"):
        found = metrics.compute()
    assert found["AUROC"] == pytest.approx(sum(each) / 2)
    assert found.keys() == set(KEYS)


def test_images_lack_what_the_metric_needs():
    masks = LABELS.view(3, 40).clone()
    masks[0] = masks[0].clamp(min=0)  # no outliers
    masks[1] = -1  # no known pixels
    predictions = torch.zeros_like(masks)
    metric = d.PerImage(d.MetricCollection([d.Accuracy()])).update(predictions=predictions, labels=masks)
    assert (metric.metric.needs_id, metric.metric.needs_ood) == (True, False)
    with pytest.warns(UserWarning, match="1 of 3 images"):
        found = metric.compute()["ACC"]
    right = [float((masks[i] == 0)[masks[i] >= 0].double().mean()) for i in (0, 2)]
    assert found == pytest.approx(sum(right) / 2)
    with pytest.raises(DataError, match="none of 2 images"):
        d.PerImage(d.AUROC()).update(SCORES.view(3, 40)[:2], masks[:2]).compute()


@pytest.mark.parametrize("positive", ["ood", "id"])
def test_curves_are_those_of_scikit_learn(positive):
    outlier, sign = (LABELS < 0).numpy(), 1 if positive == "ood" else -1
    expected = precision_recall_curve(outlier if sign > 0 else ~outlier, sign * SCORES.numpy())
    precision, recall, thresholds = d.pr_curve(SCORES, LABELS, positive)
    assert precision.tolist() == pytest.approx(expected[0].tolist())
    assert recall.tolist() == pytest.approx(expected[1].tolist())
    assert (sign * thresholds).tolist() == expected[2].tolist()
    expected = roc_curve(outlier, SCORES.numpy(), drop_intermediate=False)
    for values, others in zip(d.roc_curve(SCORES, LABELS), (*expected[:2], expected[2][1:]), strict=True):
        assert values.tolist() == pytest.approx(others.tolist())


def test_batches_are_kept_as_they_were():
    scores, metrics = SCORES.clone(), d.OODMetrics()
    metrics.update(scores, LABELS)
    expected = metrics.compute()
    scores.zero_()
    assert metrics.compute() == expected
    assert d.AUROC().update(SCORES, LABELS).compute() == {"AUROC": expected["AUROC"]}
    with pytest.raises(DataError, match="no rows"):
        metrics.reset().compute()


def test_constant_scores_have_no_threshold_curve():
    with pytest.warns(UserWarning, match="AUTC is undefined"):
        found = d.OODMetrics().update(torch.ones(120), LABELS).compute()
    assert math.isnan(found["AUTC"]) and found["AUROC"] == 0.5


def test_wrong_inputs_are_explained():
    with pytest.raises(ValueError, match="at least one on each side"):
        d.OODMetrics().update(SCORES, LABELS.clamp(min=0)).compute()
    with pytest.raises(ValueError, match="NaN"):
        d.OODMetrics().update(torch.full((120,), math.nan), LABELS).compute()
    with pytest.raises(UsageError, match="one shape"):
        d.OODMetrics().update(SCORES[:5], LABELS)
    with pytest.raises(UsageError, match="negative labels are outliers"):
        d.AUROC(void_label=-1)
    with pytest.raises(UsageError, match="different keys"):
        d.MetricCollection([d.AUROC(), d.AUROC()])
    with pytest.raises(UsageError, match="needs labels"):
        d.OODMetrics().update(SCORES, None)
    with pytest.raises(TypeError, match="has no input logits"):
        d.MetricCollection([d.AUROC()]).update(scores=SCORES, labels=LABELS, logits=SCORES)
    with pytest.raises(TypeError, match="scores must be a tensor, not list"):
        d.AUROC().update(SCORES.tolist(), LABELS)
    for member in (d.AUROC(device="cpu"), d.AUROC(void_label=1)):
        for around in (d.PerImage, lambda metric: d.MetricCollection([metric])):
            with pytest.raises(UsageError, match="to the metric around it"):
                around(member)
    for around in (d.PerImage, lambda metric: d.MetricCollection([metric])):
        with pytest.raises(UsageError, match="PerImage takes images"):
            around(d.PerImage(d.AUROC()))
    with pytest.raises(UsageError, match="not single values"):
        d.PerImage(d.AUROC()).update(SCORES[0], LABELS[0])
    with pytest.raises(TypeError, match="has the inputs scores, labels"):
        d.PerImage(d.AUROC()).update(SCORES, LABELS, LABELS)
    with pytest.raises(UsageError, match="'ood' or 'id'"):
        d.pr_curve(SCORES, LABELS, "out")
    with pytest.raises(UsageError, match="'ood' or 'id'"):
        d.AUPR("out")
    with pytest.raises(UsageError, match="at most 1, not 95"):
        d.OODMetrics(fpr_at=95)


@pytest.mark.parametrize("positive", ["ood", "id"])
def test_points_of_curves(positive):
    scores = torch.tensor([0.5, 0.1, 0.5, 0.9, 0.3, 0.3, 0.7])
    labels = torch.tensor([0, 1, -1, -1, -1, 2, 0])
    outlier = labels < 0
    fpr, tpr, thresholds = d.roc_curve(scores, labels)
    assert thresholds.tolist() == sorted(set(scores.double().tolist()), reverse=True)
    expected = [[0.0, 0.0]]
    for value in thresholds:
        flagged = scores.double() >= value
        expected.append([float(flagged[~outlier].double().mean()), float(flagged[outlier].double().mean())])
    torch.testing.assert_close(torch.stack([fpr, tpr], 1), torch.tensor(expected, dtype=torch.float64))
    precision, recall, thresholds = d.pr_curve(scores, labels, positive)
    wanted = outlier if positive == "ood" else ~outlier
    assert (precision[-1], recall[-1], len(precision)) == (1, 0, len(thresholds) + 1)
    assert thresholds.tolist() == sorted(thresholds.tolist(), reverse=positive == "id")
    for threshold, p, r in zip(thresholds, precision, recall, strict=False):
        taken = scores.double() >= threshold if positive == "ood" else scores.double() <= threshold
        assert p == pytest.approx(float(wanted[taken].double().mean()))
        assert r == pytest.approx(float(taken[wanted].double().mean()))
    area = -torch.trapezoid(precision, recall)
    assert d.aupr(scores, labels, positive) == pytest.approx(float(area))
