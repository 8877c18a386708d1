"""A few pages over HTTP for strangers, such as metrics to be scraped, everything bounded."""

from furiosa.http.page import TEXT, Answer, Page
from furiosa.http.server import HttpServer

__all__ = ["TEXT", "Answer", "HttpServer", "Page"]
