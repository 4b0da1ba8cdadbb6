"""Figures as tables, and ratios of figures that were taken in one repetition."""

from statistics import median


def table(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)


def ratios(results, columns, pairs):
    """`results[server][repetition][column]`, divided pair by pair within each repetition."""
    rows = []
    for ours, theirs in pairs:
        row = [f"{ours} ÷ {theirs}"]
        for column in columns:
            quotients = [a[column] / b[column] for a, b in zip(results[ours], results[theirs]) if b[column]]
            row.append(f"{median(quotients):.2f} [{min(quotients):.2f}..{max(quotients):.2f}]" if quotients else "–")
        rows.append(row)
    table(["ratio, median [min..max]", *columns], rows)


def of(results, column, digits=0):
    return f"{median(result[column] for result in results):.{digits}f}"
