# The command line out of a checkout:
#   docker build -t bot-onnx .
#   docker run --rm -v "$PWD:/work" bot-onnx resize model.onnx --layers 6 --hidden 384 -o small.onnx
# More extras: docker build --build-arg EXTRAS=cpu,recover,recipes -t bot-onnx .
FROM python:3.12-slim
ARG EXTRAS=cpu,recipes,report,safetensors
COPY pyproject.toml README.md LICENSE /src/
COPY bot_onnx /src/bot_onnx
COPY specs /src/specs
RUN pip install --no-cache-dir "/src[${EXTRAS}]" && rm -rf /src && useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["bot-onnx"]
CMD ["--help"]
