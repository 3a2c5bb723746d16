"""Codes, envelopes and keys of certificates, without a database."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from certification.certificates import codes, document, envelopes, keys, statements
from certification.certificates.keys import KeyFault
from certification.certificates.verification import Answer, check_file

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
KNOWN = {envelopes.key_id(KEY.public_key()): KEY.public_key()}


def statement(**predicate: Any) -> bytes:
    predicate = {"code": "7K3M-9QXP-2D4T", "model": {"name": "Nova"}, **predicate}
    return envelopes.canonical_json(
        {
            "_type": statements.STATEMENT_TYPE,
            "predicateType": statements.PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


FILE = envelopes.sign(statement(), KEY).encode()


class TestCodes:
    def test_a_code_has_three_groups_of_unambiguous_characters(self) -> None:
        drawn = {codes.draw() for _ in range(200)}
        assert len(drawn) == 200
        assert all(codes.SHAPE.fullmatch(code) and codes.read(code) == code for code in drawn)

    def test_every_wrong_character_and_every_swap_is_found(self) -> None:
        body = codes.draw().replace("-", "")
        for i, right in enumerate(body):
            for wrong in set(codes.ALPHABET) - {right}:
                assert codes.read(body[:i] + wrong + body[i + 1 :]) is None
            for j in range(i + 1, len(body)):
                swapped = list(body)
                swapped[i], swapped[j] = body[j], right
                assert right == body[j] or codes.read("".join(swapped)) is None

    def test_it_may_be_typed_as_people_do(self) -> None:
        code = codes.group("0A1" + "B" * 8 + codes.check_character("0A1" + "B" * 8))
        for typed in (code.lower(), code.replace("-", " "), f" {code.replace('-', '–')}\n"):
            assert codes.read(typed) == code
        assert codes.read(code.replace("0", "o").replace("1", "l")) == code

    @pytest.mark.parametrize("typed", ["", "7K3M", "\0" * 12, "💥" * 12, "U" * 12, "A" * 1_000_000])
    def test_anything_else_is_no_code(self, typed: str) -> None:
        assert codes.read(typed) is None


class TestEnvelopes:
    def test_the_encoding_that_is_signed_is_that_of_the_standard(self) -> None:
        # the example of the specification
        assert (
            envelopes.pae("http://example.com/HelloWorld", b"hello world")
            == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        )

    def test_a_file_as_issued_is_genuine(self) -> None:
        check = check_file(FILE, KNOWN)
        assert (check.answer, check.key_id) == (Answer.GENUINE, *KNOWN)
        assert check.predicate["model"] == {"name": "Nova"}

    def test_no_other_byte_anywhere_is_genuine(self) -> None:
        for i in range(len(FILE)):
            for other in (FILE[i] ^ 1, FILE[i] ^ 0x20, 0x20):
                if other != FILE[i]:
                    file = FILE[:i] + bytes([other]) + FILE[i + 1 :]
                    assert check_file(file, KNOWN).answer in (Answer.ALTERED, Answer.NOT_OURS), i
        for file in (
            FILE[:-1],
            FILE + b"\n",
            b"\xef\xbb\xbf" + FILE,
            FILE.decode().encode("utf-16"),
        ):
            assert check_file(file, KNOWN).answer != Answer.GENUINE

    def test_what_names_our_key_or_has_its_signature_is_altered(self) -> None:
        members = json.loads(FILE)
        payload = base64.b64decode(members["payload"]).replace(b"Nova", b"Nuva")
        forged = {**members, "payload": base64.b64encode(payload).decode()}
        renamed = {**members, "signatures": [{**members["signatures"][0], "keyid": "0" * 64}]}
        more = {**members, "note": "certified by me"}
        for changed in (forged, renamed, more):
            file = envelopes.canonical_json(changed) + b"\n"
            assert check_file(file, KNOWN).answer == Answer.ALTERED
        assert check_file(json.dumps(members, indent=2).encode(), KNOWN).answer == Answer.ALTERED

    def test_another_key_is_not_ours_even_under_our_name(self) -> None:
        foreign = envelopes.sign(statement(), OTHER)
        assert check_file(foreign.encode(), KNOWN).answer == Answer.NOT_OURS
        [name] = KNOWN
        posed = envelopes.Envelope(foreign.payload, name, foreign.signature)
        assert check_file(posed.encode(), KNOWN).answer == Answer.ALTERED

    def test_our_signature_under_a_statement_of_another_kind_is_no_certificate(self) -> None:
        for payload in (b"{}", b"[]", b"null", b"\xff", b'{"predicateType":[]}'):
            assert check_file(envelopes.sign(payload, KEY).encode(), KNOWN).answer == Answer.ALTERED

    @pytest.mark.parametrize(
        "file",
        [
            b"", b"\0", b"null", b"[]", b"{}", b"1" * 5000, b"[" * 100_000, b"\xff\xfe\x00\xd8",
            b'{"payload":1,"payloadType":2,"signatures":[{"keyid":3,"sig":"AA=="}]}',
            b'{"payload":"","payloadType":"","signatures":"ab"}',
            b'{"payload":"\xc3\xa9","payloadType":"","signatures":[{"keyid":"","sig":""}]}',
            b'{"payload":"","payloadType":"\\ud800","signatures":[{"keyid":"","sig":"'
            + base64.b64encode(bytes(64)) + b'"}]}',
        ],
    )  # fmt: skip
    def test_a_file_of_any_shape_is_an_answer_and_no_defect(self, file: bytes) -> None:
        assert check_file(file, KNOWN).answer == Answer.NOT_OURS


class TestPrintedNames:
    @pytest.mark.parametrize("clean", [document.printable, document.spell_out])
    def test_a_long_name_is_cut_and_may_break(self, clean: Callable[[str], str]) -> None:
        text = clean("W" * 1_000_000)
        assert len(text.replace(document.ZERO_WIDTH_SPACE, "")) == document.MAX_TEXT + 1
        assert max(map(len, text.split(document.ZERO_WIDTH_SPACE))) <= document.BREAK_EVERY

    def test_what_the_fonts_may_lack_is_spelled_out(self) -> None:
        assert document.spell_out("é中").replace(document.ZERO_WIDTH_SPACE, "") == "é<U+4E2D>"


class TestKeys:
    @pytest.fixture
    def folder(self, settings: Any, tmp_path: Path) -> Iterator[Path]:
        settings.CERTIFICATE_KEY = settings.CERTIFICATE_KEY_FILE = ""
        settings.CERTIFICATE_FOLDER = tmp_path / "certificates"
        settings.PRIVATE_FILES_OWNER = None
        return settings.CERTIFICATE_FOLDER

    def test_a_key_is_made_once_for_our_account_alone(self, folder: Path) -> None:
        first = keys.signing_key()
        assert stat.S_IMODE((folder / keys.FILE_NAME).stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [path.name for path in folder.iterdir()] == [keys.FILE_NAME]
        again = keys.signing_key()
        assert envelopes.key_id(again.public_key()) == envelopes.key_id(first.public_key())

    def test_a_key_that_others_may_read_is_refused(self, folder: Path) -> None:
        keys.signing_key()
        (folder / keys.FILE_NAME).chmod(0o640)
        with pytest.raises(KeyFault, match="others may read it"):
            keys.signing_key()

    def test_a_key_of_another_account_or_behind_a_link_is_refused(self, folder: Path) -> None:
        keys.signing_key()
        file = folder / keys.FILE_NAME
        moved = file.rename(folder / "elsewhere.pem")
        file.symlink_to(moved)
        with pytest.raises(KeyFault, match="cannot be read"):
            keys.signing_key()
        file.unlink()
        moved.rename(file)
        if os.geteuid() == 0:
            os.chown(file, 12345, 12345)
            with pytest.raises(KeyFault, match="belongs to user 12345"):
                keys.signing_key()

    def test_a_key_from_the_settings_comes_first(self, folder: Path, settings: Any) -> None:
        folder.mkdir()
        file = folder / "mine.pem"
        keys.create(file)
        settings.CERTIFICATE_KEY_FILE = str(file)
        mine = envelopes.key_id(keys.signing_key().public_key())
        settings.CERTIFICATE_KEY_FILE = "/nowhere.pem"
        settings.CERTIFICATE_KEY = file.read_text()
        assert envelopes.key_id(keys.signing_key().public_key()) == mine
        with pytest.raises(KeyFault, match="CERTIFICATE_KEY"):
            keys.rotate()
        settings.CERTIFICATE_KEY = ""
        with pytest.raises(KeyFault, match="cannot be read"):
            keys.signing_key()

    def test_no_message_repeats_what_is_no_key(self, folder: Path, settings: Any) -> None:
        settings.CERTIFICATE_KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"
        with pytest.raises(KeyFault) as raised:
            keys.signing_key()
        assert "hunter2" not in f"{raised.value!r} {raised.value.__cause__!r}"

    def test_rotation_makes_a_new_key_and_deletes_the_old_private_one(self, folder: Path) -> None:
        first = envelopes.key_id(keys.signing_key().public_key())
        assert envelopes.key_id(keys.rotate().public_key()) != first
        assert len(list(folder.iterdir())) == 1


class TestCommand:
    @pytest.fixture
    def key_file(self, tmp_path: Path) -> str:
        path = tmp_path / "key.pem"
        path.write_text(keys.public_pem(KEY.public_key()))
        return str(path)

    @pytest.fixture
    def run(self, tmp_path: Path, key_file: str, capsys: Any) -> Callable[[bytes], tuple[int, str]]:
        """Check a file; return the exit code and what was printed."""

        def run(file: bytes) -> tuple[int, str]:
            path, code = tmp_path / "certificate.json", 0
            path.write_bytes(file)
            try:
                call_command("verify_certificate", str(path), key=[key_file])
            except SystemExit as end:
                code = int(str(end.code))
            return code, capsys.readouterr().out

        return run

    @pytest.mark.parametrize(
        ("file", "code", "sentence"),
        [
            (FILE, 0, "Genuine: signed by key"),
            (FILE.replace(b'"payload":"e', b'"payload":"f'), 3, "ALTERED"),
            (envelopes.sign(statement(), OTHER).encode(), 4, "Not a certificate"),
            (envelopes.sign(statement(model=[], number={}), KEY).encode(), 0, "Genuine"),
        ],
    )
    def test_it_needs_neither_network_nor_database(
        self, run: Any, file: bytes, code: int, sentence: str
    ) -> None:
        ended, out = run(file)
        assert ended == code
        assert sentence in out

    def test_foreign_text_does_not_act_on_the_terminal(self, run: Any) -> None:
        _code, out = run(envelopes.sign(statement(model={"name": "\x1b[31m\u202eX"}), KEY).encode())
        assert "\\u001b[31m\\u202eX" in out
        assert "\x1b" not in out

    @pytest.mark.parametrize("file", [b"%PDF-1.7", b" " * 1_000_001])
    def test_what_it_cannot_check_is_an_error(self, run: Any, file: bytes) -> None:
        with pytest.raises(CommandError):
            run(file)
