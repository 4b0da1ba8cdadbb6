// What is answered, as plain C that runs anywhere.
#ifndef GREETING_H
#define GREETING_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>

// Writes the answer to a request for `path`, which begins below the plugin's route, and returns its length.
static inline size_t greet(char *out, size_t size, const char *greeting, const char *path) {
    while (*path == '/') path++;
    size_t length = strcspn(path, "?");
    while (length > 0 && path[length - 1] == '/') length--;
    if (length == 0) {
        path = "world";
        length = strlen(path);
    }
    int written = snprintf(out, size, "%s, %.*s\n", greeting, (int)length, path);
    if (written < 0) return 0;
    return (size_t)written < size ? (size_t)written : size - 1;
}

#endif
