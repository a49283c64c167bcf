/* a + b; y may be either. */
static void add(const float *a, const float *b, float *y, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        y[i] = a[i] + b[i];
    }
}
