"""Posts a message to a webhook. Its URL is a secret: it is in no error, no log line and no file."""

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

SECONDS = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: urllib would follow one with a GET, which delivers nothing."""

    def redirect_request(self, *arguments: Any) -> None:
        """Return no request, which makes the answer an HTTPError."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def is_webhook(url: str) -> bool:
    """Return whether `url` can be posted to: http(s) with a host, and no blank."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    except ValueError:
        return False


def post(url: str, body: Mapping[str, Any], seconds: float = SECONDS) -> bool:
    """Post `body` as JSON; return whether it arrived. A failure is a warning: it must not change how a run ends."""
    data, headers = json.dumps(body, default=str).encode(), {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, data, headers, method="POST")
        with _OPENER.open(request, timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        why = f"it answered with status {error.code}"
    except Exception as error:  # noqa: BLE001 (whatever a stranger's server or a wrong URL makes of it)
        # The text of some errors contains the URL.
        reason = getattr(error, "reason", error)
        why = type(reason if isinstance(reason, Exception) else error).__name__
    logger.warning("the webhook of --notify could not be reached (%s); nobody was notified", why)
    return False
