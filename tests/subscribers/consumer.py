"""Follows the alerts, each once, and knows which findings are open.

usage: consumer.py BROKERS TOPIC GROUP          needs confluent-kafka
"""

import json
import sys
from collections import OrderedDict

from confluent_kafka import Consumer

SEEN_MAX = 100_000  # ids remembered; repeats come within minutes of the first

brokers, topic, group = sys.argv[1:]
consumer = Consumer({
    "bootstrap.servers": brokers,
    "group.id": group,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "enable.auto.offset.store": False,  # only what was handled counts as read
})
consumer.subscribe([topic])
seen = OrderedDict()
findings = {}

while True:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        print(message.error(), file=sys.stderr)
        continue
    message_id = dict(message.headers())["ce_id"]
    if message_id not in seen:
        alert = json.loads(message.value())
        finding = alert["finding_info"]["uid"]
        if alert["activity_id"] == 3:  # Close
            findings.pop(finding, None)
        else:  # Create, Update
            findings[finding] = alert
        rule, key = alert["finding_info"]["analytic"]["uid"], message.key().decode()
        print(alert["activity_name"], rule, key, alert["severity"], len(findings), flush=True)
        seen[message_id] = True
        if len(seen) > SEEN_MAX:
            seen.popitem(last=False)
    consumer.store_offsets(message)
