"""A small server on loopback that answers as IRSA and MAST do, from recorded answers, and misbehaves as they may."""

import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits


@dataclass
class Services:
    """What the services hold, and how they misbehave.

    Parameters
    ----------
    ztf : dict of (str, str) to str
        CSV answers by the right ascension and declination that are asked for, with four decimals.
    tic : list of dict
        Entries of the TESS input catalogue.
    sectors : dict of int to bytes
        FITS files of light curves by sector.
    troubles : list of int
        Answered once each before the truth.
    asked : list of (method, path, parameters)
        What was asked.
    """

    ztf: dict[tuple[str, str], str] = field(default_factory=dict)
    tic: list[dict[str, Any]] = field(default_factory=list)
    sectors: dict[int, bytes] = field(default_factory=dict)
    troubles: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    busy: Counter[str] = field(default_factory=Counter)
    cookies: list[str] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


EMPTY_ZTF = (
    "oid,expid,hjd,mjd,mag,magerr,catflags,filtercode,ra,dec,chi,sharp,filefracday,field,ccdid,qid,limitmag,magzp,"
    "magzprms,clrcoeff,clrcounc,exptime,airmass,programid\n"
)


@contextmanager
def serve(services: Services) -> Iterator[Services]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer("GET", urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _answer(self, method: str, text: str) -> None:
            path = urlsplit(self.path).path
            parameters = {key: values[0] for key, values in parse_qs(text).items()}
            with services.lock:
                services.asked.append((method, self.path, parameters))
                services.cookies.append(self.headers.get("Cookie", ""))
                trouble = services.troubles.pop(0) if services.troubles else None
            if trouble:
                self._send(trouble[0], b"not now", **trouble[1])
            elif path.endswith("nph_light_curves"):
                _, ra, dec, _ = parameters["POS"].split()
                place = f"{float(ra):.4f}", f"{float(dec):.4f}"
                self._send(200, services.ztf.get(place, EMPTY_ZTF).encode())
            elif path.endswith("login.do"):
                self._send(200, b"ok", **{"Set-Cookie": "JOSSO_SESSIONID=known; Path=/"})
            elif path.endswith("/invoke"):
                self._send(200, json.dumps(self._mast(json.loads(parameters["request"]))).encode())
            elif path.endswith("/file"):
                self._send(200, services.sectors[int(parameters["uri"].split("-s", 1)[1][:4])])
            else:
                self._send(404, b"")

        def _mast(self, request: dict[str, Any]) -> dict[str, Any]:
            service = request["service"]
            if services.busy[service] > 0:
                services.busy[service] -= 1
                return {"status": "EXECUTING", "data": []}
            if service == "Mast.Catalogs.Tic.Cone":
                return {"status": "COMPLETE", "data": services.tic}
            if service == "Mast.Caom.Filtered":
                rows = [{"obsid": 1000 + sector, "sequence_number": sector} for sector in services.sectors]
                return {"status": "COMPLETE", "data": rows}
            if service == "Mast.Caom.Products":
                sector = request["params"]["obsid"] - 1000
                name = f"tess2018206045859-s{sector:04d}-0000000012345678-0120-s"
                files = [f"{name}_tp.fits", f"{name}_lc.fits"]
                rows = [
                    {"productFilename": file, "dataURI": f"mast:TESS/product/x-s{sector:04d}/{file}"} for file in files
                ]
                return {"status": "COMPLETE", "data": rows}
            return {"status": "ERROR", "msg": f"no service {service}", "data": []}

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    services.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield services
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tess_file(sector: int, flux: float, n: int = 500, seed: int = 0) -> bytes:
    """A light curve file as the pipeline of TESS writes it: times, fluxes, gaps, header cards."""
    rng = np.random.default_rng(seed)
    time = 1325.3 + 27.4 * (sector - 1) + np.arange(n) * 120 / 86400
    time[10] = np.nan
    columns = [
        fits.Column("TIME", "D", array=time, unit="BJD - 2457000, days"),
        fits.Column("SAP_FLUX", "E", array=0.9 * flux + rng.normal(size=n), unit="e-/s"),
        fits.Column("SAP_FLUX_ERR", "E", array=np.ones(n), unit="e-/s"),
        fits.Column("PDCSAP_FLUX", "E", array=flux + rng.normal(size=n), unit="e-/s"),
        fits.Column("PDCSAP_FLUX_ERR", "E", array=np.ones(n), unit="e-/s"),
        fits.Column("QUALITY", "J", array=np.where(np.arange(n) == 20, 128, 0)),
    ]
    primary = fits.PrimaryHDU()
    primary.header.update({"TICID": 12345678, "TESSMAG": 10.5, "SECTOR": sector, "CAMERA": 2, "CCD": 3})
    table = fits.BinTableHDU.from_columns(columns, name="LIGHTCURVE")
    table.header.update({"BJDREFI": 2457000, "BJDREFF": 0.0, "EXPOSURE": 20.1})
    file = io.BytesIO()
    fits.HDUList([primary, table]).writeto(file)
    return file.getvalue()
