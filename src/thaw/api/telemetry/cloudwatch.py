"""CloudWatch: the metrics of this server's functions, to be listed and read.

GetMetricStatistics answers extended statistics as a map in each data point, which the query protocol's XML has no
form for here; clients that need percentiles speak the newer protocols.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.utils import parse_to_aware_datetime

from thaw.errors import ServiceError
from thaw.observe.metrics import MINUTE_S, NAMESPACE, UNITS, Metrics, Statistics

# CloudWatch's limits: data points of GetMetricStatistics, and metrics in one page of ListMetrics.
MOST_POINTS = 1440
PAGE = 500


class CloudWatch:
    """The operations; arguments and answers are the documents of the service model."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def list_metrics(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """ListMetrics."""
        wanted = {one["Name"]: one.get("Value") for one in asked.get("Dimensions", ())}
        found = [
            {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": _shown(dimensions)}
            for name, dimensions in self._metrics.series()
            if asked.get("Namespace") in (None, NAMESPACE)
            and asked.get("MetricName") in (None, name)
            and all(any(key == k and value in (None, v) for k, v in dimensions) for key, value in wanted.items())
        ]
        first = _position(asked.get("NextToken"))
        answer: dict[str, Any] = {"Metrics": found[first : first + PAGE]}
        if len(found) > first + PAGE:
            answer["NextToken"] = base64.b64encode(str(first + PAGE).encode()).decode()
        return answer

    def get_metric_statistics(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """GetMetricStatistics."""
        names = (*asked.get("Statistics", ()), *asked.get("ExtendedStatistics", ()))
        if not names:
            raise _invalid("MissingParameter", "Must specify either Statistics or ExtendedStatistics")
        start, end = _span(asked)
        found = self._statistics(asked, start, end, _period(asked["Period"]))
        if len(found) > MOST_POINTS:
            raise _invalid(
                "InvalidParameterCombination",
                f"You have requested up to {len(found)} datapoints, which exceeds the limit of {MOST_POINTS}. You may "
                "reduce the datapoints requested by increasing Period, or decreasing the time range.",
            )
        return {"Label": asked["MetricName"], "Datapoints": [_point(moment, one, asked) for moment, one in found]}

    def get_metric_data(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """GetMetricData, without expressions."""
        start, end = _span(asked)
        results = [
            self._result(query, start, end, asked.get("ScanBy"))
            for query in asked["MetricDataQueries"]
            if query.get("ReturnData", True)
        ]
        return {"MetricDataResults": results, "Messages": []}

    def _result(self, query: Mapping[str, Any], start: float, end: float, order: str | None) -> dict[str, Any]:
        asked = query.get("MetricStat")
        if asked is None:
            raise _invalid(
                "ValidationError",
                f"Metric math (the expression of {query['Id']}) is not supported by this server: ask for MetricStat.",
            )
        if not asked["Metric"].get("MetricName"):
            raise _invalid("ValidationError", f"The metric of {query['Id']} has no MetricName: name one.")
        found = self._statistics(asked["Metric"], start, end, _period(asked["Period"]))
        if order != "TimestampAscending":
            found.reverse()
        return {
            "Id": query["Id"],
            "Label": query.get("Label") or asked["Metric"]["MetricName"],
            "Timestamps": [_moment(moment) for moment, _ in found],
            "Values": [_statistic(one, asked["Stat"]) for _, one in found],
            "StatusCode": "Complete",
        }

    def _statistics(
        self, metric: Mapping[str, Any], start: float, end: float, period: int
    ) -> list[tuple[int, Statistics]]:
        if metric.get("Namespace") != NAMESPACE:
            return []
        dimensions = [(one["Name"], one["Value"]) for one in metric.get("Dimensions", ())]
        return self._metrics.statistics(metric["MetricName"], dimensions, start=start, end=end, period=period)


def _point(moment: int, statistics: Statistics, asked: Mapping[str, Any]) -> dict[str, Any]:
    point: dict[str, Any] = {"Timestamp": _moment(moment), "Unit": UNITS.get(asked["MetricName"], "None")}
    point |= {name: _statistic(statistics, name) for name in asked.get("Statistics", ())}
    if extended := asked.get("ExtendedStatistics"):
        point["ExtendedStatistics"] = {name: _statistic(statistics, name) for name in extended}
    return point


def _statistic(statistics: Statistics, name: str) -> float:
    value = statistics.statistic(name)
    if value is None:
        raise _invalid(
            "InvalidParameterValue",
            f"The statistic {name} is not known: use Average, Sum, Minimum, Maximum, SampleCount or p0 to p100.",
        )
    return value


def _span(asked: Mapping[str, Any]) -> tuple[float, float]:
    start, end = (parse_to_aware_datetime(asked[name]).timestamp() for name in ("StartTime", "EndTime"))
    if start >= end:
        raise _invalid("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
    return start, end


def _period(seconds: int) -> int:
    """Values are kept by the minute, so shorter periods are answered as minutes."""
    if seconds > MINUTE_S and seconds % MINUTE_S:
        raise _invalid("InvalidParameterValue", "The parameter Period must be a multiple of 60.")
    return max(seconds, MINUTE_S)


def _position(token: str | None) -> int:
    try:
        return int(base64.b64decode(token or "MA==", validate=True))
    except (ValueError, binascii.Error) as error:
        raise _invalid("InvalidParameterValue", "The NextToken is not one that this server gave.") from error


def _shown(dimensions: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in dimensions]


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _invalid(code: str, text: str) -> ServiceError:
    return ServiceError(code, text)
