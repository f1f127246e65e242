"""nginx speaks TLS for glance-api with what the page prints: on a host of its own, as root."""

import re

import pytest

from support import checkout, host, images, pages

pytestmark = [pytest.mark.full, pytest.mark.peers]

RUNS = {"tls-proxy": {"": "test_the_service_is_reached_by_https_alone"}}

PAGE = pages.path("tls-proxy")


@pytest.fixture
def site(tmp_path):
    images.need("nginx", "openssl", "curl")
    shell = host.installed(tmp_path)
    try:
        shell.run("export PATH=/opt/glance/bin:$PATH; rm -f /etc/nginx/sites-enabled/*")
        shell.run("echo 127.0.0.1 images.example.com >> /etc/hosts")
        yield shell
        # Shown if the test fails.
        print(shell.ask("tail -n 50 /var/log/glance/*.log /var/log/nginx/*.log")[1])
    finally:
        shell.close()


def test_the_service_is_reached_by_https_alone(site):
    (move,) = checkout.blocks(PAGE, "Move glance-api to loopback")
    (certificate,) = checkout.blocks(PAGE, "Bring a certificate")
    server, check = checkout.blocks(PAGE, "Configure nginx")
    for line in move.splitlines():
        site.run(line)
    site.run(certificate)
    site.run(f"cat > /etc/nginx/conf.d/glance.conf <<'END'\n{server}\nEND")
    tested, reload = check.splitlines()
    site.run(tested)
    # No systemd has started it at its installation.
    assert reload == "systemctl reload nginx"
    site.run("nginx")
    (trial,) = checkout.blocks(PAGE, "Try it")
    said = "".join(site.run(line) for line in trial.splitlines())
    assert re.search(r"^\d+ +first ", said, re.MULTILINE)
    assert '"https://images.example.com:9292/v2/' in said
    # Large data passes whole, also with the headers of others, and without a copy at nginx.
    site.run("head -c 20000000 /dev/urandom > data")
    url = "https://images.example.com:9292/v1/images"
    sent = "-H 'x-image-meta-name: large' -H 'x-image-meta-disk_format: raw' -H 'Expect:'"
    kind = "-H 'Content-Type: application/octet-stream' -H 'Transfer-Encoding: chunked'"
    curl = "curl -sfS --cacert /etc/nginx/glance.crt"
    told = site.run(f"{curl} {sent} {kind} -X POST -T data {url}")
    number = re.search(r'"id": (\d+)', told)[1]
    assert '"disk_format": "raw"' in told
    site.run(f"{curl} {url}/{number} | cmp - data")
    assert "buffered to a temporary file" not in site.run("cat /var/log/nginx/error.log")
    # Nobody passes nginx by, and nobody without trust in the certificate gets in.
    listening = re.findall(r": (\w+):24B1 00000000:0000 0A", site.run("cat /proc/net/tcp"))
    assert listening == ["0100007F"]
    assert "400" in site.run(
        "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9292/v1/images"
    )
    code, said = site.ask("OS_CACERT= glance index")
    assert code == 1 and "ertificate" in said and "Traceback" not in said
