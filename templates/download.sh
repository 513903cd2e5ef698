#!/usr/bin/env bash
# Downloads {{ items|length }} files of {{ what }} into the present folder.
# Run it again to go on after an interruption: what is there and whole is left alone.
#   export ARCHIVER_TOKEN=...   (make one with the scope "download" on the page of your account)
set -euo pipefail
: "${ARCHIVER_TOKEN:?set it to a token with the scope download}"

failed=0
whole() { # file, sha256 (-: not known, the size counts), size
    [ -f "$1" ] || return 1
    if [ "$2" = - ]; then
        [ "$(wc -c < "$1")" -eq "$3" ]
    else
        printf '%s  %s\n' "$2" "$1" | sha256sum --check --status -
    fi
}
fetch() { # address, file, sha256, size
    local address=$1 file=$2 sum=$3 size=$4 try
    if whole "$file" "$sum" "$size"; then
        return 0
    fi
    mkdir -p -- "$(dirname -- "$file")"
    for try in 1 2 3; do
        # The token goes through standard input: other users of this computer do not see it.
        if printf 'header = "Authorization: Bearer %s"\n' "$ARCHIVER_TOKEN" |
            curl --config - --fail --silent --show-error --retry 3 --continue-at - --output "$file.part" -- "$address"; then
            if whole "$file.part" "$sum" "$size"; then
                mv -- "$file.part" "$file"
                echo "$file"
                return 0
            fi
            rm -f -- "$file.part"
        fi
        sleep "$try"
    done
    echo "FAILED $file" >&2
    failed=$((failed + 1))
}

{% for url, name, item in items %}
fetch {{ quoted(url)|safe }} {{ quoted(name)|safe }} {{ sum_of(item) }} {{ item.bytes }}
{% endfor %}

if [ "$failed" -gt 0 ]; then
    echo "$failed files could not be downloaded; run the script again" >&2
    exit 1
fi
