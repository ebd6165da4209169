"""The examples run under the real runtime interface client, as they are."""

import json
import math
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from unit.small_runtime_api import Installed, RuntimeApi, Start, call

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.package_index

# What init would do in numpy's place: a known seed, and a draw by the function's own first hook.
NUMPY = """
import numpy
from snapshot_restore_py import register_after_restore
numpy.random.seed(7)
drawn = []

@register_after_restore
def draw():
    drawn.append(numpy.random.random())

def handler(event, context):
    numpy.random.seed(7)
    return {"drawn": drawn[0], "seeded": numpy.random.random()}
"""


@pytest.fixture(scope="module")
def package(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("build") / "seattle_weather.zip"
    command = [
        sys.executable,
        EXAMPLES / "build.py",
        "seattle_weather",
        "--runtime",
        installed.name,
        "--output",
        output,
    ]
    subprocess.run(command, check=True)
    return output


def unpack(package: Path, start: Start) -> None:
    with zipfile.ZipFile(package) as archive:
        archive.extractall(start.task)


def test_package_is_within_lambdas_limits(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        assert sum(entry.file_size for entry in archive.infolist()) < 250e6
        assert all(entry.external_attr >> 16 & 0o444 == 0o444 for entry in archive.infolist())
    assert package.stat().st_size < 50e6


BOTH = """
import handler as example
import weather_by_pandas

def handler(event, context):
    return [example.handler(event, context), weather_by_pandas.report(**event)]
"""
SPELLS = ("longest_wet_days", "longest_dry_days")
TOLERANCES = {"temp_max": 0.06, "interval": 0.06, "change_per_year": 6e-4, "explained_variance": 6e-4}
EVENTS = [
    {"month": 7, "rain_mm": 1.0, "years": [2012, 2015]},
    {"month": 1, "rain_mm": 0.2, "years": [2012, 2012]},
    {"month": 2, "rain_mm": 5.0, "years": [2013, 2014]},
    {"month": 12, "rain_mm": 0.0, "years": [2015, 2015]},  # every day is a wet one
]


def test_weather_of_seattle_as_pandas_has_it(package: Path, start: Start, api: RuntimeApi) -> None:
    unpack(package, start)
    shutil.copy(Path(__file__).with_name("weather_by_pandas.py"), start.task)
    start(BOTH, AWS_REGION="eu-west-1")
    api.release.set()
    for event in EVENTS:
        said, plain = call(api, event)
        compare(said, plain)


def compare(said: dict[str, Any], plain: dict[str, Any]) -> None:
    """The example's report against the plain one, to the digits that the example gives."""
    assert (said["days"], said["weather"]) == (plain["days"], plain["weather"])
    for quantile, row in plain["quantiles"].items():
        assert said["temperature"][quantile] == pytest.approx(row, abs=0.006)
    rain, order = said["rain"], ("share_of_days", "after_a_wet_day", "after_a_dry_day")
    for name, share in zip(order, plain["shares"], strict=True):
        assert rain[name]["share"] == (pytest.approx(share, abs=6e-4) if not math.isnan(share) else None)
    assert [rain[name] for name in SPELLS] == [plain[name] for name in SPELLS]
    for year, row in said["by_year"].items():
        expected = {"rain_mm": plain["rain_mm"][year], "mean_temp_max": plain["mean_temp_max"][year]}
        assert row == pytest.approx(expected, abs=0.06)
    assert list(said["by_year"]) == list(plain["rain_mm"])
    assert list(said["correlation"].values()) == pytest.approx(plain["correlation"], abs=6e-4)
    for name in TOLERANCES:
        assert said["next_year"][name] == pytest.approx(plain[name], abs=TOLERANCES[name])


def test_weather_of_seattle_by_known_figures(package: Path, start: Start, api: RuntimeApi) -> None:
    unpack(package, start)
    start(handler="handler.handler", AWS_REGION="eu-west-1")
    api.release.set()
    report = call(api, json.loads((EXAMPLES / "seattle_weather" / "event.json").read_text()))
    assert report["days"] == 124  # four Julys
    assert report["weather"] == {"sun": 89, "rain": 14, "fog": 13, "drizzle": 8}
    assert {year: row["rain_mm"] for year, row in report["by_year"].items()} == {
        "2012": 26.3, "2013": 0.0, "2014": 19.6, "2015": 2.3,
    }  # fmt: skip
    assert report["rain"]["share_of_days"] == {"share": 0.056, "interval": [0.028, 0.112]}
    assert report["next_year"]["change_per_year"] == 0.715


def test_numpys_global_generator_is_reseeded_before_the_functions_hooks(
    package: Path, start: Start, api: RuntimeApi
) -> None:
    unpack(package, start)
    start(NUMPY)
    api.release.set()
    answer = call(api)
    assert answer["drawn"] != answer["seeded"]


@pytest.mark.parametrize("name", ["reseeding", "unique_number", "system_random", "hooks"])
def test_handlers_of_the_articles_run_verbatim(name: str, start: Start, api: RuntimeApi) -> None:
    (code,) = (EXAMPLES / "seeds" / name).glob("*.py")
    shutil.copy(code, start.task)
    function = "handler" if code.stem == "handler" else "lambda_handler"
    process = start(handler=f"{code.stem}.{function}")
    api.release.set()
    answer = call(api)
    process.kill()
    said = process.communicate()[0].splitlines()
    expected = {
        "reseeding": lambda: 0 <= answer["random_value"] <= 1000000,
        "unique_number": lambda: answer == "Hello, World!" and said[0].startswith("Unique number: "),
        "system_random": lambda: answer == "Hello, World!" and len({float(line) for line in said}) == 10,
        "hooks": lambda: said == ["Running before snapshot", "Running after restore", "Handler execution"],
    }
    assert expected[name](), (answer, said)


def test_the_same_files_give_the_same_zip(tmp_path: Path) -> None:
    sys.path.insert(0, str(EXAMPLES))
    try:
        from build import write_zip
    finally:
        sys.path.remove(str(EXAMPLES))
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "package").mkdir(parents=True)
        for file in ("b.py", "a.py", "package/c.py") if name == "one" else ("package/c.py", "a.py", "b.py"):
            (folder / file).write_text(file)
        write_zip(folder, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
