"""Settings: where they come from, what they refuse and in which words."""

from pathlib import Path

import pytest

from thaw.config import SHAPES, Settings, read_settings, unknown_variables
from thaw.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"THAW_{name.upper()}", raising=False)


def test_defaults_are_lambdas_limits() -> None:
    settings = read_settings()
    assert (settings.init_limit_s, settings.snapshot_init_limit_s, settings.restore_limit_s) == (10, 130, 10)
    assert (settings.host, settings.region, settings.account_id) == ("127.0.0.1", "us-east-1", "000000000000")


def test_variable_sets_and_argument_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THAW_PORT", "4000")
    monkeypatch.setenv("THAW_STATE_DIR", str(tmp_path))
    assert read_settings().port == 4000
    assert read_settings(port=5000, region=None).port == 5000
    assert read_settings().origin_dir == tmp_path / "origin"


def test_state_folder_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert read_settings().state_dir == Path("/var/lib/thaw")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert read_settings().state_dir == tmp_path / "thaw"


def test_relative_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings(state_dir="here", origin="there").origin_dir == tmp_path / "there"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"port": "70000"},
            "The setting port is '70000', but input should be less than or equal to 65535: "
            "set THAW_PORT or --port to a value it takes.",
        ),
        (
            {"network": "8.8.0.0/16"},
            "The setting network is '8.8.0.0/16', but must be a private IPv4 network of at least 256 addresses, "
            "such as 10.213.0.0/16: set THAW_NETWORK to a value it takes.",
        ),
        (
            {"egress": "nowhere"},
            'The setting egress is \'nowhere\', but must be "guarded", "all", or IPv4 networks such as '
            "10.0.0.0/8,192.0.2.7/32: set THAW_EGRESS to a value it takes.",
        ),
        (
            {"region": "mars"},
            "The setting region is 'mars', but must be a region such as us-east-1: set THAW_REGION or --region to a "
            "value it takes.",
        ),
        (
            {"l2_url": "memcache://x"},
            "The setting l2_url is 'memcache://x', but must be redis://host:port, rediss://host:port, "
            "redis+cluster://host:port or unix://path: set THAW_L2_URL to a value it takes.",
        ),
        ({"colour": "red"}, "There is no setting named 'colour': see `thaw serve --help` for those there are."),
    ],
)
def test_refusal_is_one_sentence(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(**given)
    assert str(caught.value) == sentence


def test_a_pattern_of_a_setting_is_explained_in_words() -> None:
    patterns = {
        name
        for name, field in Settings.model_fields.items()
        if any(getattr(one, "pattern", None) for one in field.metadata)
    }
    assert patterns == SHAPES.keys()


def test_a_variable_that_looks_like_a_setting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THAW_POOL", "THAW_ORIGINS", "THAW_POOL_SIZE", "thaw_port", "THAW_COLOUR", "POOL_SIZE"):
        monkeypatch.setenv(name, "3")
    assert unknown_variables() == [
        "THAW_ORIGINS is no setting and was ignored: did you mean THAW_ORIGIN?",
        "THAW_POOL is no setting and was ignored: did you mean THAW_POOL_SIZE?",
    ]


def test_settings_cannot_change_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().port = 1  # type: ignore[misc]
