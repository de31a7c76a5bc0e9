"use strict";
/* The sizes of a network as they are turned. All counting is in whole numbers (BigInt), as exact as a plan's. */
const botOnnx = {
  /* Sizes of leaves and depths of chains where sliders stand at steps (by key). */
  sizes(data, at) {
    const sizes = {}, layers = { ...data.chains };
    for (const [id, dim] of Object.entries(data.dims)) sizes[id] = dim.size;
    for (const slider of data.sliders) {
      const step = slider.steps[at[slider.key] ?? slider.start];
      Object.assign(sizes, step.sizes);
      Object.assign(layers, step.layers);
    }
    return { sizes, layers };
  },
  polynomial(terms, values) {
    let sum = 0n;
    for (const [factor, ...names] of terms) {
      let product = BigInt(factor);
      for (const name of names) product *= BigInt(values[name]);
      sum += product;
    }
    return sum;
  },
  macs(told, values, stacked) {
    let sum = botOnnx.polynomial(told.leading, values);
    const kinds = told.kinds.map((terms) => botOnnx.polynomial(terms, values));
    const source = told.layers.length;
    for (let n = 0; n < stacked; n++) {
      const place = n < source ? n : source - told.turns + ((n - source) % told.turns);
      sum += kinds[told.layers[place]];
    }
    return sum;
  },
  /* Parameters, bytes of weights and multiply-accumulates; null for what no polynomial says. */
  costs(data, at) {
    const { sizes, layers } = botOnnx.sizes(data, at);
    const found = { parameters: 0n, weight_bytes: 0n, macs: 0n };
    const add = (key, value) => {
      found[key] = found[key] === null || value === null ? null : found[key] + value;
    };
    for (const part of data.parts) {
      const depth = part.chain === null ? 0 : layers[part.chain];
      const values = { ...sizes, [data.layers_variable]: depth };
      for (const key of ["parameters", "weight_bytes"])
        add(key, part[key] === null ? null : botOnnx.polynomial(part[key], values));
      add("macs", part.macs === null ? null : botOnnx.macs(part.macs, values, depth - part.leading));
    }
    return found;
  },
  quoted(text) {
    return /^[\w@%+=:,.\/-]+$/.test(text) ? text : "'" + text.replace(/'/g, "'\\''") + "'";
  },
  /* The command that a plan of these very sizes comes from, option by option. */
  options(data, at) {
    const parts = [data.command], depths = {};
    for (const slider of data.sliders) {
      const value = slider.steps[at[slider.key] ?? slider.start].value;
      if (slider.kind === "layers") depths[slider.chain] = value;
      else if (slider.kind === "size") parts.push(`--${slider.key} ${value}`);
      else parts.push(`--width ${value}`, ...(value === 1 ? [] : [`--round-to ${data.round_to}`])); /* 1 is not rounded */
    }
    const chains = Object.keys(depths);
    if (chains.length) {
      const told = data.named_layers ? botOnnx.quoted(JSON.stringify(depths)) : String(depths[chains[0]]);
      parts.splice(1, 0, `--layers ${told}`);
    }
    for (const [name, size] of Object.entries(data.held)) parts.push(`--dim ${botOnnx.quoted(`${name}=${size}`)}`);
    return parts.concat("-o resized.onnx");
  },
  command(data, at) {
    return botOnnx.options(data, at).join(" ");
  },
  grouped(value) {
    return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  },
  scaled(value, units) {
    const number = Number(value);
    for (const [factor, unit] of units)
      if (number >= factor * 0.99995) {
        const share = number / factor;
        return `${share.toFixed(share < 9.995 ? 2 : 1)} ${unit}`;
      }
    return `${value}${units.none}`;
  },
  change(before, after) {
    if (before === after) return "as the model has";
    if (before === 0n) return "";
    const ratio = Number(after) / Number(before);
    return ratio >= 10
      ? `x ${ratio.toPrecision(3)} against the model`
      : `${ratio > 1 ? "+" : "−"}${Math.abs((ratio - 1) * 100).toFixed(1)} % against the model`;
  },
};
botOnnx.counts = Object.assign([[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]], { none: "" });
botOnnx.bytes = Object.assign([[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]], { none: " B" });

botOnnx.start = function (document) {
  const data = JSON.parse(document.getElementById("data").textContent);
  const inputs = [...document.querySelectorAll("input[data-key]")];
  if (!inputs.length) return;
  const byKey = Object.fromEntries(inputs.map((input) => [input.dataset.key, input]));
  const sliders = Object.fromEntries(data.sliders.map((slider) => [slider.key, slider]));
  const follow = document.getElementById("follow");
  const show = () => {
    const at = {};
    for (const input of inputs) {
      const step = sliders[input.dataset.key].steps[(at[input.dataset.key] = Number(input.value))];
      document.getElementById(`${input.id}-out`).textContent = step.value;
      input.setAttribute("aria-valuetext", String(step.value));
    }
    const found = botOnnx.costs(data, at);
    for (const [key, value] of Object.entries(found)) {
      if (value === null) continue;
      const before = BigInt(data.source[key]);
      document.getElementById(`now-${key}`).textContent = botOnnx.scaled(value, key === "weight_bytes" ? botOnnx.bytes : botOnnx.counts);
      document.getElementById(`exact-${key}`).textContent = botOnnx.grouped(value);
      document.getElementById(`change-${key}`).textContent = botOnnx.change(before, value);
      const bar = document.getElementById(`bar-${key}`);
      bar.max = Math.max(Number(before), Number(value)) || 1;
      bar.value = Number(value);
    }
    const words = botOnnx.options(data, at).map((option) => {
      const word = document.createElement("span");
      word.textContent = option;
      return word;
    });
    document.getElementById("command").replaceChildren(...words.flatMap((word, n) => (n ? [" ", word] : [word])));
  };
  const led = (input) => {
    if (!follow || !follow.checked) return;
    const leads = sliders[input.dataset.key].steps[Number(input.value)].leads;
    for (const [key, value] of Object.entries(leads)) {
      const place = sliders[key].steps.findIndex((step) => step.value === value);
      if (place >= 0) byKey[key].value = place;
    }
  };
  for (const input of inputs)
    input.addEventListener("input", () => {
      led(input);
      show();
    });
  document.getElementById("reset").addEventListener("click", () => {
    for (const input of inputs) input.value = sliders[input.dataset.key].start;
    show();
  });
  const said = document.getElementById("copied");
  document.getElementById("copy").addEventListener("click", async () => {
    const command = document.getElementById("command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      said.textContent = "copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(command);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      said.textContent = "selected: copy it with the keyboard";
    }
  });
  document.getElementById("turn").hidden = false;
  for (const input of inputs) input.value = sliders[input.dataset.key].start; /* a browser may keep what was there */
  show();
};
if (typeof document !== "undefined") botOnnx.start(document);
