// Elements made of plain values: texts stay texts, so nothing of a document or a reply is ever read as HTML.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== ""));
  return made;
}

// Text with `code` between backticks, and paragraphs where a line is empty.
export function prose(text) {
  return (text ?? "").split(/\n{2,}/).filter(Boolean).map((paragraph) => {
    const pieces = paragraph.split("`");
    return element("p", {}, pieces.map((piece, index) => (index % 2 ? element("code", {}, piece) : piece)));
  });
}
