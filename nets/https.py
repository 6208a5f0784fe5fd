"""Downloads that begin with HTTPS stay with it, wherever a server leads them."""

import contextlib
import urllib.request
from collections.abc import Iterator

from foundation.errors import InputError


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While the block runs, urllib follows no redirection out of HTTPS, not even for one step.

    Raises:
      InputError: in the block, where a server leads elsewhere.
    """
    urllib.request.install_opener(urllib.request.build_opener(_Kept))
    try:
        yield
    finally:
        urllib.request.install_opener(None)  # the usual one


class _Kept(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise InputError(f"{req.full_url} leads out of HTTPS, to {newurl}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
