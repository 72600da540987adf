"""What programs in Python do with an identify queue: clients.py requests|http.client ADDRESS SECONDS"""

import http.client
import sys

PERMIT = '{"message": "You\'re free to connect now! :)"}'


def with_requests(address, seconds):
    import requests

    with requests.Session() as session:
        session.trust_env = False  # A proxy of the machine's has no business here.
        url = f"http://{address}/"
        for shard in range(3):
            answer = session.get(url, params={"shard": shard}, timeout=seconds)
            assert (answer.status_code, answer.text) == (200, PERMIT), answer.text
            assert answer.json() == {"message": "You're free to connect now! :)"}
        answer = session.head(url, params={"shard": 5}, timeout=seconds)
        assert (answer.status_code, answer.content) == (200, b""), answer.content
        assert answer.headers["Content-Length"] == "45"
        answer = session.post(url, params={"shard": 3}, json={"a": "b"}, timeout=seconds)
        assert answer.text == PERMIT, answer.text
        # A generator is sent in chunks.
        answer = session.put(url, params={"shard": 4}, data=(b"x" * 1000 for _ in range(50)), timeout=seconds)
        assert answer.text == PERMIT, answer.text


def with_http_client(address, seconds):
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
    for shard, method in enumerate(["GET", "HEAD", "POST", "DELETE", "OPTIONS"]):
        body = "text" if method == "POST" else None
        connection.request(method, f"/?shard={shard}", body=body)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert (answer.status, text) == (200, "" if method == "HEAD" else PERMIT), (method, text)
        assert not answer.will_close
    connection.close()


{"requests": with_requests, "http.client": with_http_client}[sys.argv[1]](sys.argv[2], float(sys.argv[3]))
