"""Certificates for servers of tests, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make(folder: Path, name: str = "server", *, addresses: str = "IP:127.0.0.1,DNS:localhost") -> None:
    """`ca.crt` and `ca.key` of an authority, once; `name.crt` and `name.key`, signed by it, for the addresses."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    if not (folder / "ca.crt").exists():
        openssl("req", "-x509", *key, "-subj", "/CN=tests", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / f"{name}.ext").write_text(f"subjectAltName={addresses}\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
