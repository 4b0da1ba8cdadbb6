// Greets `who`: a name, or the path of a request, which begins below the plugin's route.
export function greet(greeting, who) {
  const name = who.split("?")[0].trim().replace(/^\/+|\/+$/g, "") || "world";
  return `${greeting}, ${name}\n`;
}
