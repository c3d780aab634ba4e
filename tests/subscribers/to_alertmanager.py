"""Forwards open findings to Prometheus' Alertmanager, which knows whom to wake.

usage: to_alertmanager.py BROKERS TOPIC GROUP ALERTMANAGER      needs confluent-kafka
       to_alertmanager.py 127.0.0.1:9092 exfilwatch.alerts pager http://127.0.0.1:9093
"""

import json
import sys
import time
import urllib.request
from datetime import datetime, timezone

from confluent_kafka import Consumer

REPEAT_S = 60  # Alertmanager forgets what nobody repeats

brokers, topic, group, alertmanager = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": brokers,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "enable.auto.commit": False,  # what is open is known from the beginning of the topic only
})
consumer.subscribe([topic])


def as_time(milliseconds):
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat()


def as_alert(alert):
    info, ours = alert["finding_info"], alert["unmapped"]["exfilwatch"]
    forwarded = {
        # The labels are the identity: nothing that changes in the life of a finding.
        "labels": {
            "alertname": info["analytic"]["uid"],
            "key": ours["key"],
            "finding": info["uid"],
            "severity": alert["severity"].lower(),
        },
        "annotations": {"summary": alert["message"], "title": info["title"]},
        "startsAt": as_time(info["created_time"]),
    }
    if alert["activity_id"] == 3:  # Close
        forwarded["endsAt"] = as_time(alert["time"])
    return forwarded


def post(alerts):
    request = urllib.request.Request(
        f"{alertmanager}/api/v2/alerts",
        json.dumps(alerts).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


findings, changed, posted = {}, [], 0.0
while True:
    message = consumer.poll(1.0)
    if message is not None and not message.error():
        alert = json.loads(message.value())
        if alert["finding_info"]["analytic"]["uid"] == "exfilwatch.canary":
            continue  # it came through, which is all it is for
        finding = alert["finding_info"]["uid"]
        before = findings.pop(finding, None)
        if before and before["labels"]["severity"] != alert["severity"].lower():
            changed.append({**before, "endsAt": as_time(alert["time"])})  # it escalated
        if alert["activity_id"] != 3:
            findings[finding] = as_alert(alert)
        changed.append(as_alert(alert))
        if len(changed) < 100:
            continue  # first all that is there
    if changed:
        post(changed)
        changed = []
    if time.monotonic() - posted > REPEAT_S and findings:
        post(list(findings.values()))
        posted = time.monotonic()
