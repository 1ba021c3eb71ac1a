# Sourced by the scripts beside it: checks what the machine must bring, makes .venv and installs into it.
# usage: . deploy/environment.sh; environment EXTRAS    (EXTRAS: "" or as "[teach,dev]")

fail() {
    echo "takt: $1" >&2
    exit 3
}

prerequisites() {
    command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3 python3-venv"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or newer is needed, this is $(python3 -V)"
    python3 -c 'import ensurepip, venv' 2>/dev/null || fail "venv is missing: apt-get install python3-venv"
    [ -d /dev/shm ] || fail "/dev/shm is missing: takt needs Linux with shared memory"
}

holds() { # whether the first list of extras has all of the second: an environment with more serves as well
    for extra in $(echo "$2" | tr -d '[]' | tr ',' ' '); do
        case ",$(echo "$1" | tr -d '[]')," in
        *",$extra,"*) ;;
        *) return 1 ;;
        esac
    done
}

install() { # Python compiles what is used when it is used: all of it would take as long as the rest
    .venv/bin/python -m pip install -q --no-compile -c deploy/constraints.txt "$@"
}

environment() {
    prerequisites
    wanted=$(cat pyproject.toml deploy/constraints.txt | sha256sum)
    ready=$(cat .venv/ready 2>/dev/null || true)
    case $ready in
    "$wanted"*) holds "${ready#"$wanted"}" "$1" && return ;;
    esac
    echo "takt: installing into .venv (the first time takes a minute or two)"
    [ -x .venv/bin/python ] || python3 -m venv .venv || fail "the virtual environment cannot be made in .venv"
    case $1 in
    *teach*) # by itself and first: anything else that asks for torch would bring the build with CUDA
        install torch==2.13.0 ;;
    esac
    install -e ".$1"
    echo "$wanted$1" >.venv/ready
}
