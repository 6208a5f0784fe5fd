"""Downloads that begin with HTTPS stay with it, wherever a server leads them."""

import contextlib
import http.client
import socket
import ssl
import urllib.error
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


def is_passing(error: BaseException) -> bool:
    """Whether a download that failed may succeed later: the network or the server is at fault.

    A server that has no such file, or lets nobody have it, and a full disk will not change.
    """
    chain = [error]  # Keras and urllib have their own errors about what failed
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    for one in chain:
        if isinstance(one, urllib.error.HTTPError):
            return one.code >= 500 or one.code in (408, 429)
        if ssl.SSLCertVerificationError in (type(one), type(getattr(one, "reason", None))):
            return False
    network = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
    return any(isinstance(one, (*network, socket.gaierror, ssl.SSLError)) for one in chain)


class _Kept(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise InputError(f"{req.full_url} leads out of HTTPS, to {newurl}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
