"""Images and documents as the APIs after Converse take them: media types and data URLs."""

from __future__ import annotations

from certification.bedrock.dialects.shape import encode_blob
from certification.inference import Document, Image

DOCUMENT_TYPES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def image_type(image: Image) -> str:
    return f"image/{'jpeg' if image.format == 'jpg' else image.format}"


def image_url(image: Image) -> str:
    return f"data:{image_type(image)};base64,{encode_blob(image.data)}"


def document_url(document: Document) -> str:
    media_type = DOCUMENT_TYPES.get(document.format, "application/octet-stream")
    return f"data:{media_type};base64,{encode_blob(document.data)}"
