# docker build --build-arg EXTRA=tpu --tag IMAGE .     (EXTRA: tpu, cuda, or none for the CPU)
# docker run --rm --volume "$PWD/runs:/runs" --user "$(id -u)" IMAGE --config=configs/derm_simclr.py --workdir=/runs/simclr
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG EXTRA=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /big_ssl

# The libraries first: a change of the code does not install them again.
COPY pyproject.toml README.md LICENSE ./
COPY big_ssl/__init__.py big_ssl/__init__.py
RUN pip install ".${EXTRA:+[$EXTRA]}" && pip uninstall --yes big_ssl

COPY big_ssl big_ssl
COPY configs configs
RUN pip install --no-deps --editable .

USER 1000
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "big_ssl.main"]
