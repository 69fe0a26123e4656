"""A webhook of somebody else's that puts another image into pods: what comes after ours must not matter.

Arguments: certificate, key, port, image.
"""

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

CERTIFICATE, KEY, PORT, IMAGE = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    """One AdmissionReview in, one with a patch out."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        patch = [{"op": "replace", "path": "/spec/containers/0/image", "value": IMAGE}]
        response = {
            "uid": request["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = HTTPServer(("", int(PORT)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
