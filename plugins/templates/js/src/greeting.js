// The answer to a request for `path`, which begins below the plugin's route.
export function greet(greeting, path) {
  const who = path.split("?")[0].replace(/^\/+|\/+$/g, "") || "world";
  return `${greeting}, ${who}\n`;
}
