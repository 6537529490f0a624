// State of every kind, from one call to the next; the functions are those of ../state/wit.

import { Note, now, random } from "perdure:state/host";

const MASK = (1n << 64n) - 1n;
let counted = 0n;
let mixed = 0n;
const entries = new Map();
const blocks = [];
const notes = [];

export const state = {
  count() {
    counted += 1n;
    return counted;
  },
  remember(key, value) {
    entries.set(key, value);
    return entries.size;
  },
  recall(key) {
    return entries.get(key);
  },
  forget(key) {
    return entries.delete(key);
  },
  churn(rounds) {
    const items = Array.from({ length: rounds }, (_, round) => String(round).repeat(3));
    return BigInt(items.reduce((sum, item) => sum + item.length, 0));
  },
  grow(size) {
    blocks.push(new Uint8Array(size).fill(blocks.length & 255));
    return BigInt(blocks.reduce((sum, block) => sum + block.length, 0));
  },
  stamp() {
    mixed = (((mixed << 7n) | (mixed >> 57n)) & MASK) ^ now() ^ random();
    return mixed;
  },
  hold(name) {
    notes.push(new Note(name));
    return notes.length;
  },
  write(index, text) {
    return notes[index].append(text);
  },
  release() {
    notes.pop()?.[Symbol.dispose]?.();
    return notes.length;
  },
};
