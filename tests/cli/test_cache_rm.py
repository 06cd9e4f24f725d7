"""Removal of sets from the cache."""

from test_score_tables import cifar  # noqa: F401


def test_rm_says_what_it_removes_and_asks(cifar, tmp_path):  # noqa: F811
    folder = tmp_path / "cache" / "net"
    assert cifar("fit", "msp", "--split", "test", "--dataset", "cifar10")[0] == 0
    code, out, err = cifar("cache", "rm", "net/svhn", "net/cifar10/test")
    assert code == 2 and "add --yes" in err and (folder / "svhn" / "test").exists()
    lines = out.splitlines()
    assert lines[0].startswith("net/svhn/test: ") and " rows, " in lines[0] and " MB" in lines[0]
    assert lines[-1] == "heads fitted on net/cifar10, which are kept: msp"
    code, _, err = cifar("cache", "rm", "net/svhn", "net/cifar10/test", "--yes")
    assert code == 0 and err.startswith("2 sets, ") and not (folder / "svhn" / "test").exists()
    assert (folder / "cifar10" / "heads" / "msp" / "head.json").exists() and (
        folder / "mnist" / "test"
    ).exists()


def test_rm_refuses_what_is_not_a_set(cifar, tmp_path):  # noqa: F811
    cifar("fit", "msp", "--split", "test", "--dataset", "cifar10")
    for key in ("net", "net/cifar10/heads", "net/cifar10/heads/msp", "..", "net/nothing", "/", ""):
        code, out, err = cifar("cache", "rm", key, "--yes")
        assert code == 3 and "is not in the cache" in err and not out, key
    assert (tmp_path / "cache" / "net" / "cifar10" / "test").exists()
