"""What is a month in Seattle like? An analysis of four years of daily weather measurements.

The data are NOAA's daily records for Seattle-Tacoma airport, 2012 to 2015 (1461 days), as the Python package
vega_datasets carries them. Everything that costs time happens in init, once: import pandas, numpy and boto3, load and
clean the table, cut it into months, fit the regressions, make an S3 client. An event asks for one month, and is
answered from compact arrays that init left behind::

    {"month": 7, "rain_mm": 1.0, "years": [2012, 2015], "bucket": "optional: where to put the report"}

With SnapStart the prepared arrays are in the snapshot. A clone copies each page of memory that it writes to, and Python
writes to whatever object it looks at; so the handler looks at few objects, and init ends with two habits that
make a first call quick: it runs the handler's own path once, and it takes what it made out of the garbage collector's
sight (gc.freeze), which would otherwise write to all of it.
"""

import gc
import json
import math
import os
from dataclasses import dataclass
from itertools import pairwise

import boto3
import numpy as np
import pandas as pd
from vega_datasets import data

REGION = os.environ.get("AWS_REGION", "us-east-1")
FIRST_YEAR, LAST_YEAR = 2012, 2015
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Z = 1.96  # of a two-sided 95 % interval
DAYS_PER_YEAR = 365.25
MEASURED = ["precipitation", "temp_max", "wind", "temp_min", "range"]  # mm, °C, m/s, °C, °C
RAIN, HOTTEST, WIND, COLDEST, RANGE = range(5)


@dataclass(frozen=True, slots=True)
class Month:
    """All days of one calendar month, oldest first; those of a year, and of adjacent years, lie side by side."""

    values: np.ndarray  # [day, column of MEASURED]
    rain_before: np.ndarray  # [day]: mm on the day before
    weather: np.ndarray  # [day]: index into WEATHER
    ends: tuple[int, ...]  # where 2012 begins, where it ends and 2013 begins, and so on


@dataclass(frozen=True, slots=True)
class Fit:
    """Least squares of the daily maximum on a line and two harmonics of the year, over adjacent years."""

    solution: np.ndarray
    spread: np.ndarray  # inverse of the design's cross product
    deviation: float  # of the residuals, °C
    explained: float  # share of the variance


def load_days():
    """One row a day: the measurements, with what all analyses derive from the date."""
    days = data.seattle_weather().set_index("date").sort_index()
    days["year"] = days.index.year
    days["month"] = days.index.month
    days["range"] = days["temp_max"] - days["temp_min"]
    days["rain_before"] = days["precipitation"].shift(1, fill_value=0.0)
    days["weather"] = days["weather"].astype("category")
    return days


def cut_month(days):
    """The days of one month as compact arrays."""
    counts = days.groupby("year").size()
    return Month(
        values=days[MEASURED].to_numpy(copy=True),
        rain_before=days["rain_before"].to_numpy(copy=True),
        weather=days["weather"].cat.codes.to_numpy(copy=True),
        ends=(0, *(int(end) for end in counts.cumsum())),
    )


def waves(time):
    """One row of the regression's design per moment, in years since the first day."""
    harmonics = [f(2 * np.pi * k * time) for k in (1, 2) for f in (np.sin, np.cos)]
    return np.column_stack([np.ones_like(time), time, *harmonics])


def fit(days):
    """The regression over all `days`."""
    design = waves((days.index - START).days.to_numpy() / DAYS_PER_YEAR)
    target = days["temp_max"].to_numpy()
    solution, (squares,), rank, _ = np.linalg.lstsq(design, target, rcond=None)
    explained = 1 - squares / ((target - target.mean()) ** 2).sum()
    deviation = math.sqrt(squares / (len(target) - rank))
    return Fit(solution, np.linalg.inv(design.T @ design), deviation, float(explained))


DAYS = load_days()
START = DAYS.index[0]
WEATHER = tuple(DAYS["weather"].cat.categories)
MONTHS = {month: cut_month(days) for month, days in DAYS.groupby("month")}
FITS = {
    (first, last): fit(DAYS[DAYS["year"].between(first, last)])
    for first in range(FIRST_YEAR, LAST_YEAR + 1)
    for last in range(first, LAST_YEAR + 1)
}
# The middle of each month of the year after the last one, as the regression sees it.
NEXT_YEAR = waves(
    np.array([(pd.Timestamp(LAST_YEAR + 1, month, 15) - START).days for month in range(1, 13)]) / DAYS_PER_YEAR
)
S3 = boto3.client("s3", region_name=REGION)


def handler(event, context):
    """Analyses the month that `event` asks for; the report is JSON, and goes to S3 too if a bucket is named."""
    month, limit_mm = int(event.get("month", 7)), float(event.get("rain_mm", 1.0))
    first, last = event.get("years", (FIRST_YEAR, LAST_YEAR))
    if not 1 <= month <= 12 or not FIRST_YEAR <= first <= last <= LAST_YEAR:
        raise ValueError("month must be 1 to 12, and years two years from 2012 to 2015 in order")
    table = MONTHS[month]
    bounds = table.ends[first - FIRST_YEAR : last - FIRST_YEAR + 2]
    chosen = slice(bounds[0], bounds[-1])
    values = table.values[chosen]
    counts = np.bincount(table.weather[chosen], minlength=len(WEATHER)).tolist()
    ends = [end - bounds[0] for end in bounds]
    report = {
        "month": month,
        "days": len(values),
        "weather": {name: count for name, count in zip(WEATHER, counts, strict=True) if count},
        "temperature": temperature(values),
        "rain": rain(values[:, RAIN], table.rain_before[chosen], limit_mm, ends),
        "by_year": by_year(values, ends, first),
        "correlation": correlation(values),
        "next_year": forecast(FITS[first, last], month),
    }
    if bucket := event.get("bucket"):
        S3.put_object(Bucket=bucket, Key=f"seattle-{month:02}.json", Body=json.dumps(report).encode())
    return report


def temperature(values):
    """Quantiles over all days in °C, linear between two days."""
    ordered = np.sort(values, axis=0)
    rows = {}
    for quantile in QUANTILES:
        place = quantile * (len(ordered) - 1)
        low = int(place)
        lower, upper = ordered[low], ordered[min(low + 1, len(ordered) - 1)]
        row = (lower + (place - low) * (upper - lower)).tolist()
        rows[str(quantile)] = {
            "temp_min": round(row[COLDEST], 2),
            "temp_max": round(row[HOTTEST], 2),
            "range": round(row[RANGE], 2),
        }
    return rows


def rain(rain_mm, before_mm, limit_mm, ends):
    """How often it rains, whether it goes on raining, and the longest spells (days) without and with rain."""
    wet, wet_before = rain_mm >= limit_mm, before_mm >= limit_mm
    hits, after_wet, both = int(wet.sum()), int(wet_before.sum()), int((wet & wet_before).sum())
    flags = wet.tolist()
    years = [flags[start:end] for start, end in pairwise(ends)]
    return {
        "share_of_days": share(hits, len(wet)),
        "after_a_wet_day": share(both, after_wet),
        "after_a_dry_day": share(hits - both, len(wet) - after_wet),
        "longest_wet_days": max(longest(days, True) for days in years),
        "longest_dry_days": max(longest(days, False) for days in years),
    }


def share(hits, count):
    """A share with its 95 % interval (Wilson)."""
    if count == 0:
        return {"share": None, "interval": None}
    observed = hits / count
    middle = (observed + Z * Z / (2 * count)) / (1 + Z * Z / count)
    spread = Z / (1 + Z * Z / count) * math.sqrt(observed * (1 - observed) / count + Z * Z / (4 * count * count))
    return {"share": round(observed, 3), "interval": [round(middle - spread, 3), round(middle + spread, 3)]}


def longest(days, wanted):
    """Length of the longest run of days that are as `wanted`."""
    run = found = 0
    for day in days:
        run = run + 1 if day is wanted else 0
        found = max(found, run)
    return found


def by_year(values, ends, first):
    """Rain in mm and the mean daily maximum in °C of every year."""
    sums = np.add.reduceat(values, ends[:-1], axis=0).tolist()
    return {
        str(first + number): {
            "rain_mm": round(row[RAIN], 1),
            "mean_temp_max": round(row[HOTTEST] / (ends[number + 1] - ends[number]), 2),
        }
        for number, row in enumerate(sums)
    }


def correlation(values):
    """How rain, temperature and wind go together (Pearson)."""
    centred = values[:, :3] - values[:, :3].mean(axis=0)
    products = (centred.T @ centred).tolist()

    def together(one, other):
        size = products[one][one] * products[other][other]
        return round(products[one][other] / math.sqrt(size), 3) if size > 0 else None

    return {"rain_and_temperature": together(RAIN, HOTTEST), "rain_and_wind": together(RAIN, WIND)}


def forecast(trend, month):
    """The daily maximum in the middle of that month in the year after the last, with the interval in which 95 % of days
    would lie were they independent of each other, and the yearly change with the seasons taken out (all in °C)."""
    row = NEXT_YEAR[month - 1]
    expected = float(row @ trend.solution)
    margin = Z * trend.deviation * math.sqrt(1 + float(row @ trend.spread @ row))
    return {
        "temp_max": round(expected, 1),
        "interval": [round(expected - margin, 1), round(expected + margin, 1)],
        "change_per_year": round(float(trend.solution[1]), 3),
        "explained_variance": round(trend.explained, 3),
    }


# Both habits from the top of this page; the first event after a restore then meets nothing for the first time.
json.dumps(handler({}, None))
gc.collect()
gc.freeze()
