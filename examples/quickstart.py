"""Send two events and ask what became of them: no account, no network is needed."""

from decimal import Decimal

from analytics_sdk import Client, Segment
from analytics_sdk.collector import Collector

# The collector stands in for Segment. With your own write key, leave `host` out.
with Collector() as collector, Client(Segment("KEY", host=collector.url)) as client:
    client.identify("user-1", {"email": "jane@example.com", "plan": "pro"})
    receipt = client.track(
        "user-1",
        "Order Completed",
        {"revenue": Decimal("19.90"), "currency": "USD"},
        message_id="order:1001",  # yours: a second copy of it is recognised
    )

    report = client.flush(timeout=3.0)
    print("everything delivered:", bool(report))
    print("the order:", receipt, receipt.message_id)

    for event in collector.events:
        print("received:", event["type"], event.get("properties") or event["traits"])
