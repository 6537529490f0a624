// A script that uses `fetch`, and leaves its handles to the garbage collector.

let counted = 0;

async function one(method, url, body) {
  const answer = await fetch(url, method === "GET" ? { method } : { method, body });
  return `${answer.status} ${await answer.text()}`;
}

export const fetcher = {
  async fetchAll(method, urls, body) {
    const found = await Promise.all(urls.map((url) => one(method, url, body)));
    counted += found.length;
    return found;
  },
  counted: () => counted,
};
