#!/bin/sh
# Make the secrets of docker-compose.yml in a folder: each once, random, and never printed.
# As root on the machine that runs the containers, because two files are given to their user.
set -eu
folder=${1:?Name the folder: ./make-secrets.sh secrets}
container_user=10001  # the USER of the Dockerfile

umask 077
mkdir -p "$folder"
chmod 700 "$folder"  # this is what keeps others out: inside, every container reads its own
cd "$folder"

random() { openssl rand -hex 32 | tr -d '\n'; }

# NAME VALUE: write a secret that is not there yet.
put() {
  [ -e "$1" ] || printf '%s' "$2" >"$1"
  chmod 444 "$1"
}

put secret_key "$(random)"
put metrics_token "$(random)"
put flower_basic_auth "myia:$(random)"
put database_password "$(random)"
put redis_password "$(random)"
put database_url "postgresql://myia:$(cat database_password)@postgres:5432/myia"
put redis_url "redis://:$(cat redis_password)@redis:6379/0"
# Of AWS, as `aws configure` writes it; empty where the machine's role is used.
put aws_credentials ""
[ -e certificate_key ] || openssl genpkey -algorithm ed25519 -out certificate_key
[ -e backup_key ] || openssl rand -base64 32 >backup_key
# They are refused where anybody else may read them.
chown "$container_user" certificate_key backup_key
chmod 400 certificate_key backup_key
echo "The secrets are in $(pwd). Keep a copy of secret_key, backup_key and certificate_key elsewhere."
