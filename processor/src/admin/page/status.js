// Fills the tables of the status page anew with each event, and gives orders. All text goes in as text, never as HTML. The
// token is in its input field and nowhere else.
"use strict";

const at = (id) => document.getElementById(id);

function put(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function rows(id, all) {
  at(id).replaceChildren(...all.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text, index) => {
      const cell = document.createElement(index ? "td" : "th");
      if (!index) cell.scope = "row";
      cell.textContent = text ?? "";
      return cell;
    }));
    return row;
  }));
}

const short = (digest) => String(digest).slice(0, 12);
const rate = (number) => number.toFixed(1);

function show(now) {
  document.title = `${now.application} - Pelton`;
  put("application", now.application);
  put("version", now.version);
  put("ready", now.ready ? "ready" : now.started ? "not ready" : "starting");
  at("ready").className = now.ready ? "well" : "unwell";
  const reasons = now.reasons.join("\n");
  if (at("reasons").dataset.shown !== reasons) {
    at("reasons").dataset.shown = reasons;
    at("reasons").replaceChildren(...now.reasons.map((reason) => {
      const item = document.createElement("li");
      item.textContent = reason;
      return item;
    }));
  }
  const { counts, rates } = now;
  rows("numbers", [
    ["Records in", counts.records_in, rate(rates.records_in)],
    ["Records out", counts.records_out, rate(rates.records_out)],
    ["Failures", counts.failures, rate(rates.failures)],
    ["Dead letters", counts.dead_letters, ""],
    ["Skipped", counts.skipped, ""],
    ["Transactions committed", counts.committed, ""],
    ["Transactions rolled back", counts.rolled_back, ""],
  ]);
  rows("flow", now.transforms.map((t) => [
    t.name, t.inputs.join(", "), t.outputs.join(", "), t.dead_letters_to,
    t.paused_by ? `paused (${t.paused_by})` : "runs",
    rate(t.rate), t.records, t.failures, t.generation, short(t.digest),
  ]));
  rows("inputs", now.inputs.map((i) => [
    i.topic, i.partitions, i.lag_records ?? "?", i.lag_seconds === null ? "?" : rate(i.lag_seconds),
  ]));
  rows("stages", now.transforms.flatMap((t) => t.generations.map((g) => [
    t.name, g.generation, short(g.digest), g.stage, g.cause,
  ])));
  const read = (who) => `${who.records} records, ${who.failures} failures`;
  rows("trials", now.transforms.filter((t) => t.trial).map((t) => [
    t.name, t.trial.kind, t.trial.generation, read(t.trial.candidate), read(t.trial.running), t.trial.differences,
  ]));
  rows("rejects", now.rejects.map((r) => [
    r.record, r.transform, r.code, `${Math.max(0, Math.floor((now.at_ms - r.at_ms) / 1000))} s`,
  ]));
  const names = now.transforms.map((t) => t.name);
  const shown = Array.from(at("chosen").options, (option) => option.value);
  if (names.join("\n") !== shown.join("\n")) {
    const chosen = at("chosen").value;
    at("chosen").replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(chosen)) at("chosen").value = chosen;
  }
}

function listen() {
  const events = new EventSource("/api/v1/events");
  events.addEventListener("open", () => put("live", "live"));
  events.addEventListener("status", (event) => show(JSON.parse(event.data)));
  events.addEventListener("error", () => {
    put("live", "not connected: these numbers are old");
    if (events.readyState !== EventSource.CLOSED) return;
    // Too many listen already: ask now and then.
    fetch("/api/v1/status").then((answer) => answer.json()).then((now) => {
      show(now);
      put("live", "every five seconds");
    }).catch(() => {});
    setTimeout(listen, 5000);
  });
}

const buttons = document.querySelectorAll("button[data-order]");

function enable() {
  buttons.forEach((button) => { button.disabled = at("token").value === ""; });
}

async function give(order) {
  const name = at("chosen").value;
  const path = order === "reload" ? "reload" : `transforms/${encodeURIComponent(name)}/${order}`;
  const what = order === "reload" ? "Reload" : `${order} of ${name}`;
  put("outcome", `${what}: asked`);
  buttons.forEach((button) => { button.disabled = true; });
  try {
    const answer = await fetch(`/api/v1/${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${at("token").value}` },
    });
    const said = await answer.json();
    put("outcome", answer.ok
      ? `${what}: ${said.result === "applied" ? "done" : "nothing to do, it is so already"}`
      : `${what}: refused (${said.code}): ${said.message}\n${said.advice}`);
  } catch (error) {
    put("outcome", `${what}: no answer (${error.message})`);
  }
  enable();
}

at("orders").hidden = false;
at("token").addEventListener("input", enable);
buttons.forEach((button) => button.addEventListener("click", () => give(button.dataset.order)));
enable();
listen();
