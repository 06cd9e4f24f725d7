"""What a plan may contain, and what is refused."""

import pytest
from test_leaderboard import PLAN

from featood.cli import leaderboard as command
from featood.errors import UsageError
from featood.pipeline.leaderboard import read_plan
from featood.pipeline.leaderboard.plan import SCHEMA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "benchmark is missing"),
        ("benchmark = []", "names no benchmark"),
        ("[[benchmark]]\nbackbone = 'net'", "dataset is missing"),
        ("[[benchmark]]\nbackbone = 'net'\ndataset = 'news'", "names no set"),
        ("[[benchmark]]\nbackbone = 'net'\ndataset = 'news'\nnear = ['a']\nfar = ['a']", "names a set twice"),
        (f"seed = 3\n{PLAN}", "seed is not known"),
        (f"{PLAN}\n[options.knn]\nseed = 1", "has a seed"),
        (f"{PLAN}\n[options.kmn]\nk = 1", "kmn"),
        (PLAN.replace("0.5", "2"), "test-share is not a share"),
        (PLAN.replace('"other"', '"net"'), "there twice"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_reason(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_plan(path)


def test_the_help_of_the_command_names_every_key_of_a_plan():
    text = command.leaderboard.help
    keys = [*SCHEMA, *SCHEMA["benchmark"][0]]
    assert len(keys) == 12 and all(key.removesuffix("?") in text for key in keys)
