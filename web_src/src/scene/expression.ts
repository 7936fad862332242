// Numbers as artists type them: "2*1.5", "1,5", "45°", "(1+2)/4". A small parser; nothing is evaluated as code.

/** The value of the text, or null where it is no number. */
export function evaluate(text: string): number | null {
  const source = text.trim().replace(/,/g, ".").replace(/\s*(°|deg|mm|m|px)$/i, "");
  let at = 0;
  const skip = () => {
    while (source[at] === " ") at++;
  };
  const number = (): number => {
    skip();
    const found = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/i.exec(source.slice(at));
    if (!found) return NaN;
    at += found[0].length;
    return Number(found[0]);
  };
  const unary = (): number => {
    skip();
    if (source[at] === "-") return at++, -unary();
    if (source[at] === "+") return at++, unary();
    if (source[at] !== "(") return number();
    at++;
    const value = sum();
    skip();
    if (source[at] !== ")") return NaN;
    at++;
    return value;
  };
  const product = (): number => {
    let value = unary();
    for (skip(); source[at] === "*" || source[at] === "/"; skip()) {
      const times = source[at++] === "*";
      const other = unary();
      value = times ? value * other : value / other;
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    for (skip(); source[at] === "+" || source[at] === "-"; skip()) {
      const plus = source[at++] === "+";
      const other = product();
      value = plus ? value + other : value - other;
    }
    return value;
  };
  if (!source || source.length > 60) return null;
  const value = sum();
  skip();
  return at === source.length && Number.isFinite(value) ? value : null;
}
