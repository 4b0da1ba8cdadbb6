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
            both = [(a[column], b[column]) for a, b in zip(results[ours], results[theirs])]
            quotients = [a / b for a, b in both if a and b]
            row.append(ratio(quotients) if quotients else "–")
        rows.append(row)
    if rows:
        table(["ratio, median [min..max]", *columns], rows)


def ratio(quotients):
    """The median and the range; `≈` marks a difference from 1 that is not larger than the spread, so it is none."""
    middle, lowest, highest = median(quotients), min(quotients), max(quotients)
    # Both as factors, so that the inverse ratio is judged alike. Two repetitions may agree by chance.
    differs = len(quotients) >= 3 and max(middle, 1 / middle) > highest / lowest
    return f"{'' if differs else '≈ '}{middle:.2f} [{lowest:.2f}..{highest:.2f}]"


def of(results, column, digits=0):
    return f"{median(result[column] for result in results):.{digits}f}"
