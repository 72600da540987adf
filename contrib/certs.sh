#!/usr/bin/env bash
# Makes a CA and a server certificate for localhost, for tests and development:
#   contrib/certs.sh DIR     leaves DIR/ca.pem, DIR/server.pem, DIR/server.key
set -euo pipefail
dir=$1
mkdir -p "$dir"
cd "$dir"
umask 077

fresh() { [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend 86400 >/dev/null 2>&1; }
if fresh ca.pem && fresh server.pem && [ -s server.key ]; then
    exit 0
fi
key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
cat >ca.cnf <<'CNF'
[req]
distinguished_name = dn
x509_extensions = ca
prompt = no
[dn]
CN = rateway development CA
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
CNF
cat >server.ext <<'CNF'
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
CNF
openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days 365 -config ca.cnf 2>/dev/null
openssl req -new "${key[@]}" -keyout server.key -out server.csr -subj /CN=localhost 2>/dev/null
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 365 \
    -extfile server.ext 2>/dev/null
# The CA's key has done its work; nobody can sign with it any more.
rm -f ca.key ca.srl server.csr ca.cnf server.ext
