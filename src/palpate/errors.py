"""Everything that can go wrong by a user's hand, as one tree.

::

    PalpateError (Exception)
    ├── ScanError        a scan or a mask that cannot be read or used
    │   ├── FormatError      a file of unknown, damaged or unsupported format
    │   ├── GeometryError    a grid whose affine, spacing or shape makes no sense
    │   └── SeriesError      a DICOM folder with no series, several, or an incomplete one
    ├── CohortError      labelled scans that cannot be found, prepared or split
    ├── SettingsError    a preset, a recipe or an option that cannot be followed
    ├── PromptError      a click outside the scan, or prompts that no crop can hold
    ├── SessionError     a session that cannot be opened or gone on with, or a lesion that it does not have
    ├── ModelError       a model file that is missing, foreign, damaged or of another base
    ├── BatchError       a list of jobs that cannot be used
    ├── WorkerError      worker processes that cannot start, or that ended before their jobs were done
    ├── OutputError      a result that cannot be written: folder, permission, disk, format
    ├── DeviceError      a device or a precision that this machine does not have
    └── CancelledError   work that was stopped on request; nothing changed

    PalpateWarning (UserWarning)
    └── GeometryWarning  a header that contradicts itself, and which part was believed

Every message has what was wrong, with the value, and what to do next. The command line turns a
`PalpateError` into one line and exit code 2.
"""


class PalpateError(Exception):
    """The root of every error that a user can cause."""


class ScanError(PalpateError):
    """A scan or a mask that cannot be read or used."""


class FormatError(ScanError):
    """A file of unknown, damaged or unsupported format."""


class GeometryError(ScanError):
    """A grid whose affine, spacing or shape makes no sense."""


class SeriesError(ScanError):
    """A DICOM folder with no series, several of them, or an incomplete one."""


class CohortError(PalpateError):
    """Labelled scans that cannot be found, prepared or split."""


class SettingsError(PalpateError):
    """A preset, a recipe or an option that cannot be followed."""


class PromptError(PalpateError):
    """A prompt outside the scan, or prompts that no crop can hold."""


class SessionError(PalpateError):
    """A session that cannot be opened or gone on with, or a lesion or a step that it does not have."""


class ModelError(PalpateError):
    """A model file that is missing, foreign, damaged or made for another base."""


class BatchError(PalpateError):
    """A list of jobs that cannot be used, or whose results another process writes."""


class WorkerError(PalpateError):
    """A worker process that could not start, or that ended before its job was done."""


class OutputError(PalpateError):
    """A result that cannot be written."""


class DeviceError(PalpateError):
    """A device or a precision that this machine does not have."""


class CancelledError(PalpateError):
    """Work that was stopped on request: `cancel()` answered True. What existed before is unchanged."""


class PalpateWarning(UserWarning):
    """The root of Palpate's warnings."""


class GeometryWarning(PalpateWarning):
    """A header that contradicts itself; the message has which part was believed."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's, CUDA's or PyTorch's CPU allocator's.

    PyTorch's are known by their name and words, so that nothing has to import it for this.
    """
    names = {each.__name__ for each in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)
