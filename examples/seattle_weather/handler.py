"""What was a month in Seattle like? An analysis of four years of daily weather measurements.

The data are NOAA's daily records for Seattle-Tacoma airport, 2012 to 2015 (1461 days), as the Python package
vega_datasets carries them. Init does what every analysis needs, once: it imports pandas, numpy and boto3, loads and
prepares the table, and makes an S3 client. An event asks for one month::

    {"month": 7, "rain_mm": 1.0, "years": [2012, 2015], "bucket": "optional: where to put the report"}
"""

import json
import os

import boto3
import numpy as np
import pandas as pd
from vega_datasets import data

REGION = os.environ.get("AWS_REGION", "us-east-1")
QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95]
DAYS_PER_YEAR = 365.25


def load_days() -> pd.DataFrame:
    """One row a day: the measurements in mm, °C and m/s, with what all analyses derive from the date."""
    days = data.seattle_weather().set_index("date").sort_index()
    days["year"] = days.index.year
    days["month"] = days.index.month
    days["range"] = days["temp_max"] - days["temp_min"]
    return days


DAYS = load_days()
S3 = boto3.client("s3", region_name=REGION)


def handler(event, context):
    """Analyses the month that `event` asks for; the report is JSON, and goes to S3 too if a bucket is named."""
    month, limit_mm = int(event.get("month", 7)), float(event.get("rain_mm", 1.0))
    first, last = event.get("years", [2012, 2015])
    if not 1 <= month <= 12 or not 2012 <= first <= last <= 2015:
        raise ValueError("month must be 1 to 12, and years two years from 2012 to 2015 in order")
    days = DAYS[DAYS["year"].between(first, last)]
    wet = days["precipitation"] >= limit_mm
    chosen = days[days["month"] == month]
    report = {
        "month": month,
        "days": len(chosen),
        "weather": chosen["weather"].value_counts().to_dict(),
        "temperature": temperature(chosen),
        "rain": rain(chosen, wet),
        "trend_c_per_year": trend(days),
        "correlation": correlation(chosen),
    }
    if bucket := event.get("bucket"):
        S3.put_object(Bucket=bucket, Key=f"seattle-{month:02}.json", Body=json.dumps(report).encode())
    return report


def temperature(chosen: pd.DataFrame) -> dict:
    """Quantiles over all days, and the mean of every year, in °C."""
    quantiles = chosen[["temp_min", "temp_max", "range"]].quantile(QUANTILES).round(2)
    return {
        "quantiles": {str(quantile): row.to_dict() for quantile, row in quantiles.iterrows()},
        "mean_max_by_year": {
            str(year): mean for year, mean in chosen.groupby("year")["temp_max"].mean().round(2).items()
        },
    }


def rain(chosen: pd.DataFrame, wet: pd.Series) -> dict:
    """How often it rains, whether it goes on raining, and the longest spells (days) without and with rain."""
    wet_before = wet.shift(1, fill_value=False).loc[chosen.index]
    wet_now = wet.loc[chosen.index]
    return {
        "share_of_days": share(wet_now),
        "after_a_wet_day": share(wet_now[wet_before]),
        "after_a_dry_day": share(wet_now[~wet_before]),
        "total_mm_by_year": {str(y): mm for y, mm in chosen.groupby("year")["precipitation"].sum().round(1).items()},
        "longest_wet_days": longest(wet_now),
        "longest_dry_days": longest(~wet_now),
    }


def share(days: pd.Series) -> dict:
    """A share with its 95 % interval (Wilson)."""
    count, hits, z = len(days), int(days.sum()), 1.96
    if count == 0:
        return {"share": None, "interval": None}
    observed = hits / count
    middle = (observed + z * z / (2 * count)) / (1 + z * z / count)
    spread = z / (1 + z * z / count) * np.sqrt(observed * (1 - observed) / count + z * z / (4 * count * count))
    return {
        "share": round(observed, 3),
        "interval": [round(float(middle - spread), 3), round(float(middle + spread), 3)],
    }


def longest(days: pd.Series) -> int:
    """Length of the longest run of true days; a gap in the dates ends a run."""
    new_run = (days != days.shift()) | (days.index.to_series().diff().dt.days != 1)
    lengths = days.groupby(new_run.cumsum()).sum()
    return int(lengths.max()) if len(lengths) else 0


def trend(days: pd.DataFrame) -> dict:
    """The yearly change of the daily maximum, with the seasons taken out: least squares on a line and two harmonics."""
    time = (days.index - days.index[0]).days.to_numpy() / DAYS_PER_YEAR
    waves = [f(2 * np.pi * k * time) for k in (1, 2) for f in (np.sin, np.cos)]
    design = np.column_stack([np.ones_like(time), time, *waves])
    target = days["temp_max"].to_numpy()
    solution, residuals, *_ = np.linalg.lstsq(design, target, rcond=None)
    explained = 1 - float(residuals[0]) / float(((target - target.mean()) ** 2).sum())
    return {"slope": round(float(solution[1]), 3), "explained_variance": round(explained, 3)}


def correlation(chosen: pd.DataFrame) -> dict:
    """How rain, temperature and wind go together (Spearman, by ranks)."""
    ranks = chosen[["precipitation", "temp_max", "wind"]].rank().corr().round(3)
    return {
        "rain_and_temperature": ranks.loc["precipitation", "temp_max"],
        "rain_and_wind": ranks.loc["precipitation", "wind"],
    }
