"""What can go wrong, in the words of the domain. Knows no HTTP: ``api.errors`` maps to statuses.

Every message is a sentence for the person who caused the error: what was wrong, with which
value, and what to do.
"""

from __future__ import annotations


class EdgeServerError(Exception):
    """Base of all errors that users are meant to read."""


class SettingsError(EdgeServerError):
    """A setting, the configuration file or the data directory cannot be used."""


class ImageError(EdgeServerError):
    """The caller's picture cannot be loaded."""


class ImageTooLargeError(ImageError):
    """The caller's picture has more pixels or needs more work than the operator allows."""


class ImageFormatError(ImageError):
    """The caller's picture is in a format that is known but not accepted."""


class ModelIdError(EdgeServerError):
    """A model id is malformed."""


class ModelNotFoundError(EdgeServerError):
    """No model with this id is installed."""


class ModelExistsError(EdgeServerError):
    """A model with this id is installed already."""


class PackageError(EdgeServerError):
    """A model package is damaged, incomplete, or of a kind that cannot be served."""


class RequestError(EdgeServerError):
    """The request asks for something that the model cannot do."""


class RequestTooLargeError(EdgeServerError):
    """The request holds more than this server takes at once."""


class ModelFailedError(EdgeServerError):
    """An installed model could not be loaded or run."""


class EngineGoneError(ModelFailedError):
    """The GPU is lost to this process; the model runs on the CPU when it is asked again."""


class BusyError(EdgeServerError):
    """The server cannot take this request now; the same request may succeed shortly."""


class KeyRequiredError(EdgeServerError):
    """The caller has to show the key of this server."""


class AccessDeniedError(EdgeServerError):
    """The caller may not do this, key or no key."""
