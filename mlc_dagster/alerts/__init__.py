"""What is said to people when something needs one of them, and how it reaches them.

What belongs here: the words of each alert and the sending of it. What does not: noticing that something is wrong; the
flows and the checks do, and hand over names, numbers and times.
"""

from mlc_dagster.alerts.messages import Message
from mlc_dagster.alerts.sending import Alerts

__all__ = ["Alerts", "Message"]
