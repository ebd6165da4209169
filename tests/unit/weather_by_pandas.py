"""The report of examples/seattle_weather, computed afresh from the table by pandas in the plainest way.

It is copied beside the example and runs in the function's interpreter, which has pandas.
"""

import math

import numpy as np
import pandas as pd
from vega_datasets import data


def report(month, rain_mm, years):
    """What the example's handler is to answer."""
    days = data.seattle_weather()
    days["rain_before"] = days["precipitation"].shift(1, fill_value=0.0)
    days["range"] = days["temp_max"] - days["temp_min"]
    asked = days[days["date"].dt.year.between(*years)]
    chosen = asked[asked["date"].dt.month == month]
    wet, wet_before = chosen["precipitation"] >= rain_mm, chosen["rain_before"] >= rain_mm
    by_year = chosen.groupby(chosen["date"].dt.year)
    ranges = chosen[["temp_min", "temp_max", "range"]].quantile([0.05, 0.25, 0.5, 0.75, 0.95])
    together = chosen[["precipitation", "temp_max", "wind"]].corr()
    return {
        "days": len(chosen),
        "weather": chosen["weather"].value_counts().to_dict(),
        "quantiles": {str(quantile): row.to_dict() for quantile, row in ranges.iterrows()},
        "shares": [wet.mean(), wet[wet_before].mean(), wet[~wet_before].mean()],
        "longest_wet_days": int(spells(wet, by_year.ngroup()).max()),
        "longest_dry_days": int(spells(~wet, by_year.ngroup()).max()),
        "rain_mm": {str(year): mm for year, mm in by_year["precipitation"].sum().items()},
        "mean_temp_max": {str(year): mean for year, mean in by_year["temp_max"].mean().items()},
        "correlation": [together.loc["precipitation", "temp_max"], together.loc["precipitation", "wind"]],
        **forecast(days, asked, month),
    }


def spells(flags, years):
    """Lengths of the runs of true days, within years."""
    run = ((flags != flags.shift()) | (years != years.shift())).cumsum()
    return flags.groupby(run).sum()


def forecast(days, asked, month):
    """The regression of the daily maximum by the normal equations, and its prediction for the year after the last."""
    start = days["date"].iloc[0]
    design = np.array([moment((date - start).days / 365.25) for date in asked["date"]])
    target = asked["temp_max"].to_numpy()
    solution = np.linalg.solve(design.T @ design, design.T @ target)
    residuals = target - design @ solution
    deviation = math.sqrt((residuals**2).sum() / (len(target) - 6))
    row = np.array(moment((pd.Timestamp(2016, month, 15) - start).days / 365.25))
    margin = 1.96 * deviation * math.sqrt(1 + row @ np.linalg.inv(design.T @ design) @ row)
    return {
        "temp_max": row @ solution,
        "interval": [row @ solution - margin, row @ solution + margin],
        "change_per_year": solution[1],
        "explained_variance": 1 - residuals.var() / target.var(),
    }


def moment(years):
    """The regression's terms at a time in years."""
    turn = 2 * math.pi * years
    return [1.0, years, math.sin(turn), math.cos(turn), math.sin(2 * turn), math.cos(2 * turn)]
