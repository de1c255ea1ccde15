"use strict";
// Texts of models and users are only ever set as textContent: nothing in them is HTML.

const byId = (id) => document.getElementById(id);
const texts = new Map();  // what was fetched, by item
const history = [];  // what was rated here, with what stood before: for undo
let set = null;
let given = {};
let place = 0;  // in set.items; behind the last one is the end
let ranked = [];  // letters of a ranking that is not complete yet
let busy = true;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start it again with “tunesmith review serve” and open the address that it prints; what was rated so far is saved.");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

async function textsOf(index) {
  const number = set.items[index];
  if (!texts.has(number)) {
    if (texts.size > 20) texts.clear();
    texts.set(number, await ask(`item/${number}`));
  }
  return texts.get(number);
}

const letters = (count) => [...set.letters.slice(0, count)];
const currentItem = () => set.items[place];

// --- what is shown

function region(title, text, id) {
  const heading = element("h2", {id}, element("span", {textContent: title}));
  const box = element("div", {className: "text", tabIndex: 0, dir: "auto"});
  box.setAttribute("role", "region");
  box.setAttribute("aria-labelledby", id);
  if (text === "") box.append(element("span", {className: "nothing", textContent: "(nothing)"}));
  else box.textContent = text;
  return element("section", {}, heading, box);
}

async function show(index, focus = true) {
  place = Math.max(0, Math.min(index, set.items.length));
  ranked = [];
  if (place === set.items.length) showEnd();
  else await showItem();
  showCount();
  if (focus) byId("where").focus({preventScroll: true});
  byId("main").scrollTop = 0;
  if (place + 1 < set.items.length) textsOf(place + 1).catch(() => {});
}

async function showItem() {
  const item = await textsOf(place);
  const many = item.answers.length > 1;
  const parts = [region("Prompt", item.prompt, "h-prompt")];
  if (item.reference !== undefined) parts.push(region("Right answer", item.reference, "h-reference"));
  parts.forEach((part) => part.classList.add("given"));
  const answers = element("div", {id: "answers"});
  letters(item.answers.length).forEach((letter, index) => {
    const section = region(many ? `Answer ${letter}` : "Answer", item.answers[index], `h-${letter}`);
    section.dataset.letter = letter;
    answers.append(section);
  });
  byId("main").replaceChildren(...parts, answers);
  byId("question").textContent = set.question;
  byId("footer").hidden = false;
  showChoices(item.answers.length);
}

function showChoices(count) {
  const choices = set.choices.length ? set.choices : letters(count).map((letter, index) => (
    {value: letter, label: letter, keys: [String(index + 1), letter.toLowerCase()]}
  ));
  byId("choices").replaceChildren(...choices.map((choice) => {
    const button = element("button", {type: "button"},
      element("span", {textContent: choice.label}), element("kbd", {textContent: choice.keys.join(" ")}));
    button.dataset.value = choice.value;
    button.dataset.keys = choice.keys.join(" ");
    button.setAttribute("aria-keyshortcuts", choice.keys.join(" ").toUpperCase());
    button.querySelector("kbd").setAttribute("aria-hidden", "true");
    button.addEventListener("click", () => act(() => choose(choice.value)));
    return button;
  }));
  mark();
}

function mark() {
  const value = given[currentItem()];
  const order = ranked.length ? ranked : value !== undefined && set.kind === "ranking" ? value.split(">") : [];
  for (const button of byId("choices").children) {
    const own = button.dataset.value;
    const pressed = set.kind === "ranking" ? order.includes(own) : own === value;
    button.setAttribute("aria-pressed", String(pressed));
  }
  for (const section of byId("answers").children) {
    const letter = section.dataset.letter;
    section.querySelector(".rank")?.remove();
    const rank = order.indexOf(letter) + 1;
    if (rank) section.querySelector("h2").append(element("span", {className: "rank", textContent: `rank ${rank}`}));
    const preferred = set.kind === "pairwise" || set.kind === "ab" ? value?.[0] === letter : rank === 1;
    section.classList.toggle("chosen", preferred);
  }
}

function showCount() {
  const total = set.items.length;
  const rated = Object.keys(given).length;
  byId("where").textContent = place < total ? `Item ${place + 1} of ${total}` : "The end";
  byId("progress").max = total;
  byId("progress").value = rated;
  byId("count").textContent = `${rated} rated`;
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === total;
  document.title = `${rated}/${total} · Review`;
}

function showEnd() {
  const open = nextOpen(-1);
  const missing = set.items.length - Object.keys(given).length;
  const end = element("section", {className: "end"});
  if (open === null) {
    end.append(
      element("h2", {textContent: "All rated, thank you"}),
      element("p", {textContent: "Everything is saved. You can close this page, or go back and change what you like."}),
    );
  } else {
    const button = element("button", {type: "button", textContent: "Go to the first of them"});
    button.addEventListener("click", () => act(() => show(nextOpen(-1) ?? set.items.length)));
    end.append(
      element("h2", {textContent: missing === 1 ? "One item is still open" : `${missing} items are still open`}), button,
    );
  }
  byId("main").replaceChildren(end);
  byId("footer").hidden = true;
}

function say(text) {
  byId("said").textContent = text;
}

function fail(error) {
  byId("failure").textContent = error.message;
  byId("failure").hidden = false;
}

// --- what a rater does

function nextOpen(after) {
  const index = set.items.findIndex((item, at) => at > after && given[item] === undefined);
  return index === -1 ? null : index;
}

async function save(item, value) {
  try {
    await ask("answer", {item, value});
  } catch (error) {
    throw new Error(`Not saved: ${error.message}`);
  }
  if (value === null) delete given[item];
  else given[item] = value;
}

async function choose(value) {
  if (place === set.items.length) return;
  if (set.kind === "ranking") {
    const all = letters((await textsOf(place)).answers.length);
    if (ranked.includes(value)) return;
    ranked.push(value);
    const left = all.filter((letter) => !ranked.includes(letter));
    if (left.length > 1) {
      mark();
      say(`${value} is rank ${ranked.length}`);
      return;
    }
    value = [...ranked, ...left].join(">");
  }
  const item = currentItem();
  const before = given[item] ?? null;
  try {
    await save(item, value);
  } catch (error) {
    ranked = [];
    mark();
    throw error;
  }
  history.push({item, before});
  await show(nextOpen(place) ?? nextOpen(-1) ?? set.items.length);
  say(`Saved: ${value}. ${byId("where").textContent}.`);
}

async function undo() {
  if (ranked.length) {
    ranked.pop();
    mark();
    return;
  }
  const last = history[history.length - 1] ?? (given[currentItem()] === undefined ? null : {item: currentItem(), before: null});
  if (last === null) {
    say("There is nothing to undo.");
    return;
  }
  await save(last.item, last.before);
  history.pop();
  await show(set.items.indexOf(last.item));
  say(`Taken back. ${byId("where").textContent}.`);
}

// One thing after the other: a key that comes while a rating is being saved is meant for nothing that is seen yet.
async function act(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
    byId("failure").hidden = true;
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

const commands = {
  ArrowLeft: () => show(place - 1), p: () => show(place - 1),
  ArrowRight: () => show(place + 1), n: () => show(place + 1),
  u: undo, Backspace: undo,
};

function showKeys() {
  const list = [
    ...[...byId("choices").children].map((button) => [
      button.dataset.keys.split(" "),
      set.kind === "ranking" ? `${button.dataset.value} is the next best` : button.firstChild.textContent,
    ]),
    [["←", "p"], "previous item"], [["→", "n"], "next item, without rating this one"],
    [["u", "Backspace"], "take the last rating back"], [["Tab", "↑", "↓"], "to a text, and through it"],
    [["?"], "this list"],
  ];
  byId("keys-list").replaceChildren(...list.flatMap(([keys, what]) => [
    element("dt", {}, ...keys.map((key) => element("kbd", {textContent: key}))), element("dd", {textContent: what}),
  ]));
  byId("keys").showModal();
}

document.addEventListener("keydown", (event) => {
  if (set === null || event.ctrlKey || event.metaKey || event.altKey) return;
  if (byId("keys").open) {
    if (event.key === "?") byId("keys").close();
    return;
  }
  if (event.key === "?") {
    showKeys();
    event.preventDefault();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const button = [...byId("choices").children].find((one) => one.dataset.keys.split(" ").includes(key));
  const command = button && !byId("footer").hidden ? () => choose(button.dataset.value) : commands[key];
  if (command === undefined) return;
  event.preventDefault();
  if (!event.repeat) act(command);
});

byId("previous").addEventListener("click", () => act(commands.ArrowLeft));
byId("next").addEventListener("click", () => act(commands.ArrowRight));
byId("undo").addEventListener("click", () => act(undo));
byId("help").addEventListener("click", showKeys);

(async () => {
  try {
    set = await ask("set");
    given = set.given;
    await show(nextOpen(-1) ?? set.items.length, false);
  } catch (error) {
    byId("where").textContent = "Not loaded";
    fail(error);
  } finally {
    busy = false;
  }
})();
