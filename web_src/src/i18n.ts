// Texts: the user's language, then English. Values stand in braces; plurals are "one|many".
import english from "../../locales/en/main.json";

export type Translate = (key: string, values?: Record<string, unknown>) => string;

const flat = (english as any).sightline.editor as Record<string, string>;

export function translator(lookup: (key: string) => string | undefined, locale: string): Translate {
  const plural = new Intl.PluralRules(safeLocale(locale));
  return (key, values = {}) => {
    let text = lookup(key) ?? flat[key] ?? key;
    if (text.includes("|")) {
      const forms = text.split("|");
      text = plural.select(Number(values.n ?? 0)) === "one" ? forms[0] : forms[forms.length - 1];
    }
    return text.replace(/\{(\w+)\}/g, (all, name) => {
      const value = values[name];
      if (value === undefined) return all;
      return typeof value === "number" ? value.toLocaleString(safeLocale(locale), { useGrouping: false, maximumFractionDigits: 3 }) : String(value);
    });
  };
}

export function safeLocale(locale: string): string {
  try {
    return Intl.getCanonicalLocales(locale.replace("_", "-"))[0] ?? "en";
  } catch {
    return "en";
  }
}
