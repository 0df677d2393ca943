#!/bin/sh
# Secrets of this installation, made at its first start, each into a volume of its own:
#   make                 makes those that are missing; prints none
#   show token|grafana   prints the first token of the view, or the password of Grafana's user admin
set -eu
umask 022 # programs of several users read them; the volumes are mounted nowhere else
cd "${SECRETS:-/secrets}"

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# put FILE: what is said on standard input, complete or not at all; also after a crash in between
put() {
    cat > "$1.new"
    mv "$1.new" "$1"
    echo "made $1"
}

case "${1-}" in
make)
    if [ ! -s database/password ]; then
        random | put database/password
    fi
    printf 'postgresql://anomaly:%s@database:5432/anomaly' "$(cat database/password)" > database/url
    if [ ! -s grafana/password ]; then
        random | put grafana/password
    fi
    if [ ! -s admin/token ]; then
        if [ -e tokens/tokens ]; then # of a start that was cut off: nobody has seen that token
            faust-anomaly token revoke first --file tokens/tokens 2> /dev/null || true
        fi
        umask 077
        faust-anomaly token create first --role admin --file tokens/tokens 2> /dev/null | put admin/token
        test -s admin/token
        chmod 0644 tokens/tokens # hashes only
    fi
    ;;
show)
    case "${2-}" in
    token) cat admin/token ;;
    grafana) cat grafana/password && echo ;;
    *) echo "expected: show token, or show grafana" >&2 && exit 2 ;;
    esac
    ;;
*)
    echo "expected: make, or show token|grafana" >&2
    exit 2
    ;;
esac
