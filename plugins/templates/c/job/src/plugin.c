// Greets the world now and then, in the background. A program that returns is finished, and is not run again.
#include "greeting.h"
#include "support.h"

#include <stdlib.h>
#include <unistd.h>

#define INTERVAL 10 // seconds

int main(void) {
    char text[256];
    if (!load_greeting()) {
        fprintf(stderr, "[config] greeting must have 1 to 127 bytes\n");
        return EXIT_FAILURE;
    }
    for (;;) {
        greet(text, sizeof text, greeting, "world", 5);
        // Each line that is printed is an entry of the log.
        fputs(text, stdout);
        fflush(stdout);
        sleep(INTERVAL);
    }
}
