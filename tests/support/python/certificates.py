"""A certificate authority that lives as long as a test, by the program openssl."""

from __future__ import annotations

import os
import pathlib
import subprocess


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """Signs certificates; everything is below `folder`, which it makes."""

    def __init__(self, folder: pathlib.Path, name: str = "test authority"):
        folder.mkdir(parents=True)
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._serial = 0
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", str(self._key), "-out", str(self.certificate), "-days", "2",
                 "-subj", f"/CN={name}")

    def issue(self, common_name: str, alternatives: str = "", days: int = 2
              ) -> tuple[pathlib.Path, pathlib.Path]:
        """Paths of a new certificate and its key; fewer than 0 days: it has expired."""
        self._serial += 1
        stem = self.folder / f"{self._serial}-{common_name}"
        certificate, key = stem.with_suffix(".pem"), stem.with_suffix(".key")
        request, extensions = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={alternatives}\n" if alternatives else "")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-keyout", str(key), "-out", str(request), "-subj", f"/CN={common_name}")
        _openssl("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey",
                 str(self._key), "-set_serial", str(self._serial), "-days", str(days), "-extfile",
                 str(extensions), "-out", str(certificate))
        return certificate, key

    def issue_server(self, common_name: str = "node", days: int = 30
                     ) -> tuple[pathlib.Path, pathlib.Path]:
        return self.issue(common_name, "DNS:localhost,IP:127.0.0.1", days)


def install(source: pathlib.Path, target: pathlib.Path) -> None:
    """Puts a copy in place at once, as an operator should."""
    fresh = target.with_suffix(".fresh")
    fresh.write_bytes(source.read_bytes())
    os.replace(fresh, target)
