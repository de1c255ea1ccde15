# All images, from one file:
#   --target operator   the operator, without torch
#   --target trainer    what head, workers, submitter and evaluation run; with CUDA's libraries, for GPUs and CPUs alike
#   --target trainer-vllm   the same with vLLM, for objective.ppo.vllm
# Dependencies are early layers, pinned by constraints.txt; our own code is the last one, so that a change to it takes seconds.

FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin tunesmith
ENV HOME=/home/tunesmith

# The requirements alone, so that the layers below are rebuilt only when these change, not with every line of pyproject.toml.
FROM base AS requirements
WORKDIR /requirements
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    [open(f'{name}.txt', 'w').write('\n'.join(sum((project['optional-dependencies'][extra] for extra in extras), \
     project['dependencies']))) for name, extras in {'operator': ['operator', 'tracing'], 'train': ['train', 'harness', 'tracking', 'tracing']}.items()]"

FROM base AS wheel
RUN pip install "setuptools>=80"
WORKDIR /source
COPY pyproject.toml README.md ./
COPY trainer trainer
COPY operator operator
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM base AS operator
COPY --from=requirements /requirements/operator.txt /requirements/constraints.txt /requirements/
RUN pip install -r /requirements/operator.txt -c /requirements/constraints.txt
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl
USER 1000
ENTRYPOINT ["tunesmith-operator"]

FROM base AS torch
# libgomp1: DeepSpeed's CPU operator below is linked against it
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=requirements /requirements/constraints.txt /requirements/
RUN pip install torch -c /requirements/constraints.txt

# DeepSpeed compiles its collectives for CPUs when training starts, for which a pod has neither a compiler nor a writable
# place. Built into its wheel here, they are used on CPUs only: on CUDA, DeepSpeed goes its usual way.
FROM torch AS deepspeed
RUN apt-get update && apt-get install --yes --no-install-recommends g++
RUN pip install setuptools wheel ninja packaging psutil py-cpuinfo -c /requirements/constraints.txt
RUN DS_ACCELERATOR=cpu DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=1 \
    pip wheel deepspeed --no-deps --no-build-isolation --no-binary deepspeed -c /requirements/constraints.txt --wheel-dir /wheels

FROM torch AS trainer
COPY --from=deepspeed /wheels /wheels
COPY --from=requirements /requirements/train.txt /requirements/
RUN pip install -r /requirements/train.txt -c /requirements/constraints.txt --find-links /wheels
COPY --from=wheel /dist /dist
RUN pip install --no-deps /dist/*.whl
USER 1000
CMD ["tunesmith", "--help"]

# vLLM pins another PyTorch than ours, so it has a Python of its own. Triton compiles with gcc when it starts.
FROM trainer AS trainer-vllm
USER 0
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/vllm && /opt/vllm/bin/pip install vllm==0.33.0
USER 1000
