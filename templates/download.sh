#!/usr/bin/env bash
# Downloads {{ items|length }} files of {{ what }} into the present folder.
# Run it again to go on after an interruption: what is there and whole is left alone.
#   export ARCHIVER_TOKEN=...   (make one with the scope "download" on the page of your account)
set -euo pipefail
: "${ARCHIVER_TOKEN:?set it to a token with the scope download}"

failed=0
fetch() { # address, file, sha256
    local address=$1 file=$2 sum=$3 try
    if [ -f "$file" ] && printf '%s  %s\n' "$sum" "$file" | sha256sum --check --status -; then
        return 0
    fi
    mkdir -p -- "$(dirname -- "$file")"
    for try in 1 2 3; do
        # The token goes through standard input: other users of this computer do not see it.
        if printf 'header = "Authorization: Bearer %s"\n' "$ARCHIVER_TOKEN" |
            curl --config - --fail --silent --show-error --retry 3 --continue-at - --output "$file.part" -- "$address"; then
            if printf '%s  %s\n' "$sum" "$file.part" | sha256sum --check --status -; then
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

{% for item in items %}
fetch {{ quoted(item.url)|safe }} {{ quoted(item.name)|safe }} {{ item.sha256 }}
{% endfor %}

if [ "$failed" -gt 0 ]; then
    echo "$failed files could not be downloaded; run the script again" >&2
    exit 1
fi
