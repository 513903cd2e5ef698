#!/usr/bin/env bash
# pyvo 1.9.1: a row of a DataLink answer calls its processing service without the session that the answer came with.
#
# Valid input: a {links} answer with one SODA service descriptor, from a server that wants a token with each request, as
# archives with proprietary data do; pyvo is given a requests.Session that sends the token.
# Expected: the session is used for the {links} answer and for the service. Seen: the {links} answer is asked for with
# the token, the service without it, so that the server refuses (401); and what `process` returns is the body of the
# refusal, without an error. With DatalinkQuery, to which the session can be given once more, the same call has the token.
#
# Reason: DatalinkRecord.process makes its query without handing on the session of the results it belongs to, and does
# not call `raise_if_error` of the query, which has kept the error of HTTP.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pyvo==1.9.1 astropy==8.0.2 requests==2.34.2
cat > "$folder/links.py" <<'PY'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from pyvo.dal.adhoc import DatalinkQuery, DatalinkResults

LINKS = """<?xml version="1.0"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/><TABLE>
<FIELD name="ID" datatype="char" arraysize="*" ucd="meta.id;meta.main"/>
<FIELD name="access_url" datatype="char" arraysize="*"/><FIELD name="service_def" datatype="char" arraysize="*"/>
<FIELD name="error_message" datatype="char" arraysize="*"/><FIELD name="semantics" datatype="char" arraysize="*"/>
<FIELD name="description" datatype="char" arraysize="*"/><FIELD name="content_type" datatype="char" arraysize="*"/>
<FIELD name="content_length" datatype="long"><VALUES null="-1"/></FIELD>
<DATA><TABLEDATA><TR><TD>m31</TD><TD/><TD>cutout</TD><TD/><TD>#cutout</TD><TD/><TD>image/fits</TD><TD>-1</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE>
<RESOURCE type="meta" utype="adhoc:service" ID="cutout">
<PARAM name="standardID" datatype="char" arraysize="*" value="ivo://ivoa.net/std/SODA#sync-1.0"/>
<PARAM name="accessURL" datatype="char" arraysize="*" value="{root}/soda"/>
<GROUP name="inputParams"><PARAM name="ID" datatype="char" arraysize="*" value="m31"/>
<PARAM name="CIRCLE" datatype="double" arraysize="3" xtype="circle" unit="deg" value=""/></GROUP></RESOURCE>
</VOTABLE>"""
seen = []


class Archive(BaseHTTPRequestHandler):
    def do_GET(self):
        place, has_token = self.path.partition("?")[0], self.headers.get("Authorization") == "Bearer t"
        seen.append((place, has_token))
        self.send_response(200 if has_token else 401)
        self.send_header("Content-Type", "application/x-votable+xml")
        self.end_headers()
        links = LINKS.replace("{root}", root).encode()
        self.wfile.write(b"a token, please" if not has_token else links if place == "/links" else b"SIMPLE  =")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
root = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
session = requests.Session()
session.headers["Authorization"] = "Bearer t"
links = DatalinkResults.from_result_url(f"{root}/links", session=session)
row = links.get_first_proc()
print("process returned", answer := row.process(circle=(10.7, 41.3, 0.1)).read())
service = links.get_adhocservice_by_id(row.service_def)
print("with the session once more", DatalinkQuery.from_resource(row, service, session=session).execute_stream().read())
server.shutdown()
print(seen)
assert answer == b"a token, please", "behaviour changed"
assert seen == [("/links", True), ("/soda", False), ("/soda", True)], "behaviour changed"
PY
"$folder/venv/bin/python" "$folder/links.py"
# Seen:
# process returned b'a token, please'
# with the session once more b'SIMPLE  ='
# [('/links', True), ('/soda', False), ('/soda', True)]
