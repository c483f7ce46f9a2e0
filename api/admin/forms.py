"""A form with one file, parsed as it arrives: small fields are kept, the file's bytes are handed on. No I/O."""

import hashlib

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from events.errors import InvalidRequest
from events.text import clean_line, line_fault

FIELD_BYTES_MAX = 25_000
"""Room for a description of 5,000 characters of four bytes each, and some more."""
FIELDS_MAX = 20
BOUNDARY_BYTES_MAX = 70
"""RFC 2046, 5.1.1."""
HEADER_BYTES_MAX = 8192
"""Room for a file name of 1,024 characters of four bytes each, and some more."""


class Form:
    """`feed` it the body, take the file's bytes out of `pending`, and `finish` it.

    `filename` is None until the file begins; `size_bytes` and `sha256` cover the file's bytes so far. Every method raises
    InvalidRequest for any other kind of body.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("send multipart/form-data with a field `file`")
        if len(options[b"boundary"]) > BOUNDARY_BYTES_MAX:
            raise InvalidRequest(f"the boundary of a form has at most {BOUNDARY_BYTES_MAX} characters")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size_bytes = 0
        self.pending = bytearray()
        self._digest = hashlib.sha256()
        self._complete = False
        self._in_file = False
        self._name = ""
        self._header, self._value, self._field = bytearray(), bytearray(), bytearray()
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
            max_header_size=HEADER_BYTES_MAX,
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes so far, lower-case hex."""
        return self._digest.hexdigest()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"this is not a well-formed form: {error}") from error

    def finish(self) -> None:
        """Mark the end of the body."""
        if not self._complete:
            raise InvalidRequest("the form ends in the middle; send it again")
        if not self.filename:
            raise InvalidRequest("the form has no `file`")
        if not self.size_bytes:
            raise InvalidRequest("the file is empty")

    def _begin(self) -> None:
        self._name, self._in_file = "", False
        self._field.clear()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode(errors="replace")
            if self._name == "file":
                if self.filename is not None:
                    raise InvalidRequest("the form has more than one `file`; send one at a time")
                self.filename = options.get(b"filename", b"").decode(errors="replace")
                if not 1 <= len(self.filename) <= 1024:
                    raise InvalidRequest("`file` wants a name of 1 to 1024 characters")
                if reason := line_fault(self.filename):
                    raise InvalidRequest(f"the file name {reason}")
                self._in_file = True
        self._header.clear()
        self._value.clear()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            piece = data[start:end]
            self.pending += piece
            self.size_bytes += len(piece)
            self._digest.update(piece)
        elif len(self._field) + end - start > FIELD_BYTES_MAX:
            raise InvalidRequest(f"the field `{clean_line(self._name, 50)}` is too long")
        else:
            self._field += data[start:end]

    def _end(self) -> None:
        if self._in_file:
            return
        if len(self.fields) >= FIELDS_MAX:
            raise InvalidRequest(f"the form has more than {FIELDS_MAX} fields")
        self.fields[self._name] = self._field.decode(errors="replace")

    def _finish(self) -> None:
        self._complete = True
