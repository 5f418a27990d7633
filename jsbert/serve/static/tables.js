// Files of texts, and files of vectors.

export const MOST_TEXTS = 50_000;
const COLUMNS = ["text", "sentence", "document", "passage", "body", "content", "title"];

// {rows, header}: the rows of a csv or tsv text; a csv field may hold quotes and line ends.
export function readTable(content, separator) {
  const rows = [];
  let row = [], field = "", quoted = false, i = 0;
  const quotes = separator === ",";
  const end = () => { row.push(field); field = ""; };
  while (i < content.length) {
    const letter = content[i];
    if (quoted) {
      if (letter !== '"') field += letter;
      else if (content[i + 1] === '"') { field += '"'; i += 1; }
      else quoted = false;
    } else if (quotes && letter === '"' && field === "") quoted = true;
    else if (letter === separator) end();
    else if (letter === "\n") { end(); rows.push(row); row = []; }
    else if (letter !== "\r") field += letter;
    i += 1;
  }
  if (quoted) throw new Error("A quote is not closed in the csv file.");
  if (field !== "" || row.length) { end(); rows.push(row); }
  return { header: (rows[0] ?? []).map((name) => name.trim()), rows: rows.slice(1) };
}

// The place of the column that probably holds the texts.
export function textColumn(header) {
  const names = header.map((name) => name.toLowerCase());
  const found = COLUMNS.map((name) => names.indexOf(name)).find((place) => place >= 0);
  return found ?? 0;
}

export function linesOf(content) {
  return content.split(/\r?\n/).map((line) => line.trim()).filter((line) => line);
}

export function columnOf(table, place) {
  return table.rows.map((row) => (row[place] ?? "").trim()).filter((text) => text);
}

// A .npy file (version 1.0) of float32, (rows, dimension).
export function npy(vectors, dimension) {
  const shape = `(${vectors.length / dimension}, ${dimension})`;
  let header = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`;
  header = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const start = new Uint8Array(10);
  start.set([0x93, ...[..."NUMPY"].map((letter) => letter.charCodeAt(0)), 1, 0]);
  new DataView(start.buffer).setUint16(8, header.length, true);
  return new Blob([start, header, vectors], { type: "application/octet-stream" });
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Float32 numbers from base64. Every machine that runs a browser is little-endian.
export function floats(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
