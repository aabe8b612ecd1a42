#!/usr/bin/env bash
# Installs what `make` needs and this machine lacks, and says why; silent when all is there.
#   scripts/bootstrap.sh run|test|console|ci
# Without root and sudo, or without apt, it prints what to install and stops. It starts no service.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:?run, test, console or ci}

stop() {
  printf '%s\n' "$@" >&2
  exit 1
}

version_at_least() { # version_at_least 1.94 1.95.0
  [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

packages=() reasons=()
need() { # need PACKAGES REASON CHECK…
  local wanted=$1 reason=$2
  shift 2
  "$@" >/dev/null 2>&1 && return
  read -ra wanted <<<"$wanted"
  packages+=("${wanted[@]}")
  reasons+=("$(printf '  %-20s %s' "${wanted[*]}" "$reason")")
}

has_c_compiler() { echo '#include <stdlib.h>' | cc -E -; }
has_node() { command -v node && command -v npm; }
has_browser() { command -v chromium; }
has_softhsm() { command -v softhsm2-util && [ -e /usr/lib/softhsm/libsofthsm2.so ]; }
has_nats() { command -v nats-server || [ -x /usr/sbin/nats-server ]; }
has_nginx() { command -v nginx || [ -x /usr/sbin/nginx ]; }
has_openssl() { command -v openssl; }
has_slapd() { [ -x /usr/sbin/slapd ]; }
has_redis() { command -v redis-server; }
has_python() { python3 -c 'import ensurepip, venv'; }
has_postgres() { # where the server looks, see src/platform/db/embedded
  local found=(/usr/lib/postgresql/*/bin/postgres)
  command -v postgres || [ -x "${found[0]}" ] || [ -x "$(pg_config --bindir)/postgres" ]
}

collect() {
  packages=() reasons=()
  if [ "$purpose" != console ]; then
    need 'gcc libc6-dev' "links Rust programs, compiles aws-lc (cryptography)" has_c_compiler
    need postgresql "the private server that Tenantry runs (its binaries; no service is started)" has_postgres
  fi
  if [ "${CONSOLE:-yes}" != no ]; then
    need 'nodejs npm' "build GraphiQL's page, run stock GraphQL clients in tests" has_node
  fi
  if [ "$purpose" = test ] || [ "$purpose" = ci ]; then
    need softhsm2 "an HSM in software: keys of premium tenants are tested in it" has_softhsm
    need nats-server "tenants' streams are tested in it (no service is started)" has_nats
    need openssl "answers about certificates, and judges the same paths as the server does" has_openssl
    need nginx "passes certificates of clients on (no service is started)" has_nginx
    need redis-server "tenants' caches are tested in it (no service is started)" has_redis
    need slapd "tenants' directories are tested in it (no service is started)" has_slapd
    need 'python3 python3-venv' "runs moto, which answers like AWS KMS and S3: keys and objects of tenants are tested with it" has_python
  fi
  if [ "$purpose" = ci ]; then
    need chromium "opens GraphiQL in a real browser" has_browser
  fi
}

check_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
  command -v cargo >/dev/null || stop "Rust is missing: install $wanted or newer with rustup (https://rustup.rs)."
  found=$(cargo --version | cut -d ' ' -f 2)
  version_at_least "$wanted" "$found" || stop "Rust $found is too old: $wanted or newer is needed; \`rustup update\` brings it."
}

check_node() {
  [ "${CONSOLE:-yes}" = no ] && return
  local found
  found=$(node --version)
  version_at_least 18 "${found#v}" && return
  stop "Node.js $found is too old: GraphiQL's page needs 18 or newer. Install one, or leave GraphiQL out: make $purpose CONSOLE=no"
}

install() {
  local log as_root=()
  local by_hand="apt-get install --no-install-recommends ${packages[*]}"
  command -v apt-get >/dev/null || stop "Missing here, by their Debian names:" "${reasons[@]}" "Install them and try again."
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && [ ! -t 0 ]; }; then
      stop "Missing here:" "${reasons[@]}" "As root: $by_hand"
    fi
    as_root=(sudo)
  fi
  echo "Installing what is missing here:"
  printf '%s\n' "${reasons[@]}"
  log=$(mktemp)
  install_quietly >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    stop "apt-get failed, see above; by hand: $by_hand"
  }
  rm -f "$log"
}

install_quietly() {
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  "${apt[@]}" update
  # The package would make a cluster and start it on port 5432. A machine that has postgresql-common made its choice.
  if [[ " ${packages[*]} " == *' postgresql '* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${apt[@]}" install --no-install-recommends postgresql-common
    "${as_root[@]}" sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  fi
  local quiet=/usr/sbin/policy-rc.d service status=0
  # Other packages would start their service now and at every boot. A machine that has such a policy made its choice.
  if [ -e "$quiet" ]; then
    quiet=
  else
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$quiet" && "${as_root[@]}" chmod 755 "$quiet"
  fi
  "${apt[@]}" install --no-install-recommends "${packages[@]}" || status=$?
  [ -z "$quiet" ] || "${as_root[@]}" rm -f "$quiet"
  for service in redis-server nats-server nginx slapd; do
    [[ " ${packages[*]} " != *" $service "* ]] || "${as_root[@]}" update-rc.d "$service" disable || true
  done
  return "$status"
}

[ "$purpose" = console ] || check_rust
collect
if [ ${#packages[@]} -gt 0 ]; then
  install
  collect
  [ ${#packages[@]} -eq 0 ] || stop "Still missing after the installation:" "${reasons[@]}"
fi
check_node
