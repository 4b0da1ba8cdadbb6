// The answer, as plain C that runs anywhere.
#ifndef GREETING_H
#define GREETING_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>

// Returns how many bytes of `text` fit into `max` bytes, without a part of a character at the end: what a plugin passes to
// the host as text must be UTF-8.
static inline size_t fitting(const char *text, size_t length, size_t max) {
    if (length <= max) return length;
    while (max > 0 && (text[max] & 0xc0) == 0x80) max--;
    return max;
}

// Greets `who`, `length` bytes: a name, or the path of a request, which begins below the plugin's route. Returns the
// length of the answer.
static inline size_t greet(char *out, size_t size, const char *greeting, const char *who, size_t length) {
    const char *query = memchr(who, '?', length);
    if (query != NULL) length = query - who;
    while (length > 0 && strchr(" /\r\n", who[length - 1]) != NULL) length--;
    while (length > 0 && (*who == ' ' || *who == '/')) {
        who++;
        length--;
    }
    if (length == 0) {
        who = "world";
        length = strlen(who);
    }
    int written = snprintf(out, size, "%s, %.*s\n", greeting, (int)length, who);
    if (written < 0) return 0;
    return (size_t)written < size ? (size_t)written : size - 1;
}

#endif
