// An element with its properties and children, all of them text or elements and never HTML; null, undefined and false
// are none. Comes before the script of each of the page's own parts.
function make(tag, properties = {}, ...children) {
  const isGiven = (value) => value !== null && value !== undefined && value !== false;
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (!isGiven(value)) continue;
    if (name in element && name !== "role") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(isGiven));
  return element;
}

